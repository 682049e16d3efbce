"""What follows from the results of `fastnn bench`, in sentences: who is faster, how sure that is, what to beware of."""

from collections.abc import Mapping

from fastnn.bench.report.formatting import INTERVAL, case, deviation_text, percent, several
from fastnn.bench.report.results import Results, cases, controls, measured, ordered, overall, plain_backends
from fastnn.bench.verdicts import FASTER, SAME, SLOWER

NOISY = 0.1  # reach of the control's intervals above which its finding nothing says little


def title(results: Results) -> str:
    name = (results.get("dataset") or {}).get("name") or "no data"
    return f"fastnn bench {results.get('level') or ''}: training on {'MNIST' if name == 'mnist' else name}"


def answer(results: Results) -> list[str]:
    """The result in a few sentences."""
    return [
        line for part in (fastest, fastest_by_case, control_text, gate_text, accuracy_text) if (line := part(results))
    ]


# ---- backends -------------------------------------------------------------------------------------------------------


def fastest(results: Results) -> str:
    """Which backend is the fastest, by how much, and how sure that is."""
    means = {name: overall(results, name) for name in plain_backends(results)}
    known = sorted((name for name, mean in means.items() if mean), key=lambda name: -(means[name] or 0))
    reference, rows = results.get("reference"), cases(results)
    if not rows:
        return "Throughput was not measured."
    if len(known) < 2:
        return f"Only one backend was measured ({', '.join(means) or 'none'}): there is nothing to compare it with."
    others = "; ".join(f"{name} is {versus(results, name)}" for name in known if name != reference)
    best = known[0]
    if best == reference:
        return f"No backend is faster than {best}, the reference, here: {others}."
    if not any(row["comparisons"][best]["verdict"] == FASTER for row in rows):
        return f"No backend is measurably faster than {reference} here: {others}."
    return f"{best} is the fastest backend here: {others.removeprefix(f'{best} is ')}."


def versus(results: Results, name: str) -> str:
    """A backend against the reference over all cases."""
    entries = [row["comparisons"][name] for row in cases(results)]
    text = f"{overall(results, name):.2f} times as fast as {results.get('reference')}"
    low, high = min(entry["low"] for entry in entries), max(entry["high"] for entry in entries)
    verdicts = [entry["verdict"] for entry in entries]
    if len(entries) == 1:
        return f"{text} ({INTERVAL} {low:.2f} to {high:.2f}: {verdicts[0]}) with {case(cases(results)[0])}"
    counts = ", ".join(f"{word} in {verdicts.count(word)}" for word in (FASTER, SLOWER, SAME) if word in verdicts)
    return f"{text}, geometric mean of {len(entries)} cases ({INTERVAL}s within {low:.2f} to {high:.2f}; {counts})"


def fastest_by_case(results: Results) -> str:
    """Who is surely ahead in each case, lower precisions included."""
    winners = [row.get("fastest") for row in cases(results)]
    contenders = results.get("contenders") or {}
    backends = [name for name in measured(results) if (contenders.get(name) or {}).get("kind") == "backend"]
    if len(backends) < 2 or not winners:
        return ""
    counts = {name: winners.count(name) for name in dict.fromkeys(winners) if name}
    said = [f"{name} in {count} of {several(len(winners), 'case')}" for name, count in counts.items()]
    said += [f"undecided in {winners.count(None)}"] if None in winners else []
    return f"Fastest of all backends and precisions, case by case: {', '.join(said)}."


# ---- the control ----------------------------------------------------------------------------------------------------


def control_state(results: Results) -> tuple[str, float]:
    """(clean, noisy or NOT clean; how far from 1 its intervals reach): a difference below that may be noise."""
    rows = controls(results)
    reach = max((abs(entry[end] - 1) for entry in rows for end in ("low", "high")), default=0.0)
    if any(entry["verdict"] != SAME for entry in rows):
        return "NOT clean", reach
    return ("noisy" if reach > NOISY else "clean"), reach


def reach_text(reach: float) -> str:
    return f"{100 * reach:.0f} %" if reach < 1 else f"a factor of {1 + reach:.1f}"


def control_text(results: Results) -> str:
    rows = controls(results)
    if not rows:
        return "No A/A control was measured, so it is not known how large a difference this machine makes up by itself."
    one, other = results.get("control") or ("a contender", "its copy")
    off = sum(entry["verdict"] != SAME for entry in rows)
    farthest = max(abs(entry["ratio"] - 1) for entry in rows)
    state, reach = control_state(results)
    text = f"The A/A control (`{other}` against `{one}`) differs by at most {100 * farthest:.1f} %"
    found = f"no difference is found in {several(len(rows), 'case')}"
    if state == "clean":
        return f"{text}; {found}: clean."
    if state == "noisy":
        return f"{text}; {found}, but intervals reach to {reach_text(reach)}: the machine was too noisy to tell more."
    return f"{text} and is NOT clean: in {off} of {several(len(rows), 'case')} a difference is found where none is."


# ---- correctness and accuracy ---------------------------------------------------------------------------------------


def gate_text(results: Results) -> str:
    gate = results.get("gate") or []
    failed = [check for check in gate if not check["passed"]]
    if not gate:
        return "The results were not checked against a reference (no gate)."
    if not failed:
        return f"All {several(len(gate), 'check')} of networks and kernels against float64 passed."
    named = list(dict.fromkeys(f"{check['contender']} ({check['quantity']})" for check in failed))
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    return f"{len(failed)} of {several(len(gate), 'check')} against float64 FAILED: {', '.join(named[:4])}{more}."


def accuracy_text(results: Results) -> str:
    section = results.get("accuracy") or {}
    summary, said = section.get("summary") or {}, []
    for name in ordered(results, [name for name in summary if name in plain_backends(results)]):
        mean = summary[name]["accuracy"][0]
        said.append(
            f"{name} {percent(mean, 2)} ({deviation_text(summary[name], ', ')}{several(summary[name]['n'], 'run')})"
        )
    return (
        f"Test accuracy after {(section.get('recipe') or {}).get('epochs', '?')} epochs: {', '.join(said)}."
        if said
        else ""
    )


# ---- warnings -------------------------------------------------------------------------------------------------------


def warnings(results: Results) -> list[str]:
    """What a reader should know before believing any figure."""
    environment, dataset = results.get("environment") or {}, results.get("dataset") or {}
    said = []
    if results.get("interrupted"):
        said.append("The run was interrupted: parts are missing, and others have fewer measurements than planned.")
    if dataset.get("note") or dataset.get("name") not in ("mnist", None):
        said.append(f"This is not MNIST but {dataset.get('name')}. {dataset.get('note') or ''}".strip())
    if any(not check["passed"] for check in results.get("gate") or []):
        said.append(gate_text(results))
    state, reach = control_state(results)
    if state != "clean":
        said.append(f"The A/A control is {state}: do not believe differences below {reach_text(reach)}.")
    if (results.get("curves") or {}).get("passed") is False:
        said.append("A loss curve leaves the float64 reference by more than the tolerance.")
    if environment.get("dirty"):
        said.append("The code has been changed since the commit it names: nobody else can measure the same.")
    cores = environment.get("cores")
    quota = environment.get("cgroup_quota") or (cores.get("quota") if isinstance(cores, Mapping) else None)
    if quota:
        said.append(f"The container may use {quota} cores' worth of time: threads are stopped when it is spent.")
    load = environment.get("load_average") or environment.get("load")
    load = load[0] if isinstance(load, list) and load else load
    if isinstance(load, int | float) and load > 1:
        said.append(f"Other programs were running: the load average was {load:.2f} before the first measurement.")
    return said
