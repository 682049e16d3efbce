"""What follows from the results of `fastnn bench`, in sentences: who is faster, how sure that is, what to beware of."""

from fastnn.bench.report import formatting
from fastnn.bench.report.formatting import INTERVAL, number, percent, several
from fastnn.bench.report.results import backends, cases, controls, ordered, overall
from fastnn.bench.report.schema import Agreement, Many, Results
from fastnn.bench.verdicts import FASTER, SAME, SLOWER

PASSED = {True: "PASS", False: "FAIL", None: "not judged"}
NOISY = 0.1  # distance of an end of the control's intervals from 1 above which "no difference" says little


def title(results: Results) -> str:
    name = results["dataset"].get("name") or "no data"
    return f"fastnn bench {results['level'] or ''}: training on {'MNIST' if name == 'mnist' else name}"


def answer(results: Results) -> list[str]:
    """The result in a few sentences."""
    parts = (fastest, fastest_by_case, control_text, gate_text, accuracy_text)
    return [line for part in parts if (line := part(results))]


# ---- backends -------------------------------------------------------------------------------------------------------


def fastest(results: Results) -> str:
    """Which backend is the fastest, by how much, and how sure that is; of those in the network's own precision."""
    names, reference = backends(results, precisions=False), results["reference"]
    means = {name: mean for name in names if (mean := overall(results, name))}
    if not cases(results):
        return "Throughput was not measured."
    if len(means) < 2:
        return f"Only one backend was measured ({', '.join(names) or 'none'}): there is nothing to compare it with."
    ranked = sorted(means, key=lambda name: -means[name])
    best, told = ranked[0], {name: versus(results, name, means[name]) for name in ranked if name != reference}
    others = "; ".join(f"{name} is {text}" for name, text in told.items())
    if best == reference:
        return f"No backend is faster than {best}, the reference, here: {others}."
    if not any(row["comparisons"][best]["verdict"] == FASTER for row in cases(results)):
        return f"No backend is measurably faster than {reference} here: {others}."
    return f"{best} is the fastest backend here: {others.removeprefix(f'{best} is ')}."


def versus(results: Results, name: str, mean: float) -> str:
    """A backend against the reference over all cases."""
    entries = [row["comparisons"][name] for row in cases(results)]
    text, verdicts = f"{mean:.2f} times as fast as {results['reference']}", [entry["verdict"] for entry in entries]
    low, high = min(entry["low"] for entry in entries), max(entry["high"] for entry in entries)
    if len(entries) == 1:
        where = formatting.case(cases(results)[0])
        return f"{text} ({INTERVAL} {low:.2f} to {high:.2f}: {verdicts[0]}) with {where}"
    counts = ", ".join(f"{word} in {verdicts.count(word)}" for word in (FASTER, SLOWER, SAME) if word in verdicts)
    return f"{text}, geometric mean of {len(entries)} cases ({INTERVAL}s within {low:.2f} to {high:.2f}; {counts})"


def fastest_by_case(results: Results) -> str:
    """Who is surely ahead in each case, lower precisions included."""
    winners = [row["fastest"] for row in cases(results)]
    if len(backends(results, precisions=True)) < 2 or not winners:
        return ""
    names = dict.fromkeys(name for name in winners if name)
    said = [f"{name} in {winners.count(name)} of {several(len(winners), 'case')}" for name in names]
    said += [f"undecided in {winners.count(None)}"] if None in winners else []
    return f"Fastest of all backends and precisions, case by case: {', '.join(said)}."


# ---- the control ----------------------------------------------------------------------------------------------------


def control_state(results: Results) -> tuple[str, str]:
    """(clean, noisy or NOT clean; how far from 1 its intervals reach): a difference below that may be noise."""
    rows = controls(results)
    reach = max((abs(end - 1) for entry in rows for end in (entry["low"], entry["high"])), default=0.0)
    text = f"{100 * reach:.0f} %" if reach < 1 else f"a factor of {1 + reach:.1f}"
    if any(entry["verdict"] != SAME for entry in rows):
        return "NOT clean", text
    return ("noisy" if reach > NOISY else "clean"), text


def control_text(results: Results) -> str:
    rows = controls(results)
    if not rows:
        return "No A/A control was measured, so it is not known which differences this machine shows between equals."
    one, other = results["control"] or ("a contender", "its copy")
    off, (state, reach) = sum(entry["verdict"] != SAME for entry in rows), control_state(results)
    farthest, where = max(abs(entry["ratio"] - 1) for entry in rows), several(len(rows), "case")
    text = f"The A/A control (`{other}` against `{one}`) differs by at most {100 * farthest:.1f} %"
    if off:
        return f"{text} and is NOT clean: in {off} of {where} a difference is found where none is."
    if state == "noisy":
        return (
            f"{text}; no difference is found in {where}, but intervals reach to {reach}: the machine was too noisy to "
            "tell more."
        )
    return f"{text}; no difference is found in {where}: clean."


# ---- correctness and accuracy ---------------------------------------------------------------------------------------


def gate_text(results: Results) -> str:
    checks = several(len(results["gate"]), "check")
    failed = [check for check in results["gate"] if not check["passed"]]
    if not results["gate"]:
        return "The results were not checked against a reference."
    if not failed:
        return f"All {checks} of networks and kernels against float64 passed."
    named = list(dict.fromkeys(f"{check['contender']} ({check['quantity']})" for check in failed))
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    return f"{len(failed)} of {checks} against float64 FAILED: {', '.join(named[:4])}{more}."


def accuracy_text(results: Results) -> str:
    summary, epochs = results["accuracy"]["summary"], results["accuracy"]["recipe"].get("epochs", "?")
    said = [
        f"{name} {percent(summary[name]['accuracy'][0], 2)} ({formatting.deviation(summary[name], ', ')}"
        f"{several(summary[name]['n'], 'run')})"
        for name in ordered(results, summary)
        if name in backends(results, precisions=False)
    ]
    return f"Test accuracy after {epochs} epochs: {', '.join(said)}." if said else ""


# ---- limits of a device ---------------------------------------------------------------------------------------------


def limits(results: Results) -> list[str]:
    """A line for each thing that a level for a device judges, or has left out."""
    agreement, many, accuracy = results["agreement"], results["many"], results["accuracy"]
    head = f"Agreement with the CPU after {agreement['epochs']} epochs of {agreement['case']}"
    lines = [
        f"{head}, {run['backend']} {run['precision']}: {agreement_text(results, run)}" for run in agreement["runs"]
    ]
    lines += [f"{head}, {name}: left out: {why}" for name, why in agreement["skipped"].items()]
    if many["networks"]:
        lines.append(f"{many['networks']} networks at once, {many['case']}: {many_text(many)}")
    if accuracy["limit"] is not None:
        words, goal = PASSED[accuracy["passed"]], percent(accuracy["goals"][-1], 0)
        lines.append(f"Seconds of training to {goal}: {words}, limit {1e3 * accuracy['limit']:.0f} ms")
    return lines


def agreement_text(results: Results, run: Agreement) -> str:
    if run["error"]:
        return f"FAIL: {run['error']}"
    curve, points = (results["agreement"]["limits"].get(f"{name}_difference") for name in ("loss", "accuracy"))
    limit = f" (limit {formatting.error(curve)})" if run["precision"] == "float32" else ""
    return (
        f"{PASSED[run['passed']]}: losses within {formatting.error(run['loss_difference'])}{limit}; test accuracy "
        f"{percent(run['accuracy'], 2)}, {number(run['accuracy_difference'])} points off (limit {points})"
    )


def many_text(many: Many) -> str:
    if many["error"] or many["skipped"]:
        return f"FAIL: {many['error']}" if many["error"] else f"left out: {many['skipped']}"
    words = []
    for measure, ratio in many["ratios"].items():
        one, every = (1e3 * many["medians"][measure][who] for who in ("one", "many"))
        low, high = ratio["interval"]
        words.append(f"by the {measure} {every:.2f} ms, {ratio['median']:.2f} x {one:.2f} ms [{low:.2f}, {high:.2f}]")
    limit = many["limits"].get("ratio")
    return (
        f"{PASSED[many['passed']]}: {'; '.join(words)}{f' (limit {limit:g} x)' if limit else ''}; "
        f"{len(many['rounds'])} rounds; losses within {formatting.error(many['loss_difference'])} of those of two "
        f"trained alone (limit {formatting.error(many['limits'].get('loss_difference'))})"
    )


# ---- warnings -------------------------------------------------------------------------------------------------------


def warnings(results: Results) -> list[str]:
    """What a reader should know before believing any figure."""
    environment, dataset, (state, reach) = results["environment"], results["dataset"], control_state(results)
    cores, load = environment.get("cores"), environment.get("load_average")
    quota = cores.get("quota") if isinstance(cores, dict) else None
    busy = load[0] if isinstance(load, list) and load else 0
    name, explained = dataset.get("name"), dataset.get("note") or ""
    said = [
        (results["interrupted"], "The run was interrupted: parts are missing, others have fewer samples than planned."),
        (explained or name not in ("mnist", None), f"This is not MNIST but {name}. {explained}".strip()),
        (any(not check["passed"] for check in results["gate"]), gate_text(results)),
        (state != "clean", f"The A/A control is {state}: do not believe differences below {reach}."),
        (results["curves"]["passed"] is False, "A loss curve differs from the float64 reference by too much."),
        (environment.get("dirty"), "The code has uncommitted changes: nobody else can measure the same."),
        (quota, f"The container may use {quota} cores' worth of time: threads are stopped when it is spent."),
        (busy > 1, f"Other programs were running: the load average was {busy:.2f} before the first measurement."),
    ]
    return [text for applies, text in said if applies] + [line for line in limits(results) if ": FAIL" in line]
