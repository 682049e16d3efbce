"""Sweeps: which settings are tried, an honest ranking by validation data, files, figures, the command."""

import csv
import json
import math

import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.model_selection import train_test_split

import fastnn
from fastnn import cli
from fastnn.backends import resolve_backend
from fastnn.commands import sweep as command
from fastnn.history import History
from fastnn.plots.sweep import sweep_panels
from fastnn.sweeps import sweep, sweeping
from fastnn.sweeps.hyperparameters import list_settings, make_arguments
from fastnn.sweeps.ranking import Row, Sweep, Trial

DATA = fastnn.datasets.load("digits")
X, Y = DATA.x_train[:600], DATA.y_train[:600]
SPACE = {"learning_rate": [0.03, 0.1], "width": [8, "12-8"]}
OPTIONS = {"epochs": 2, "batch_size": 32, "backend": "numpy", "jobs": 1, "threads": 1}


def trials(result):
    """What must not depend on how the runs were run."""
    return [(row.settings, t.seed, t.loss, t.accuracy, t.history.loss) for row in result.rows for t in row.trials]


def made_up(accuracies, samples=1000, names=("learning_rate",), repeats=1, losses=None):
    """A sweep of settings with these accuracies: a number, or one for each seed."""
    rows = []
    for i, values in enumerate(accuracies):
        row = Row({name: 0.01 * (i + 1) for name in names})
        for seed, accuracy in enumerate(np.atleast_1d(values)):
            loss = 1 - accuracy if losses is None else losses[i][seed]
            diverged = bool(np.isnan(loss))
            row.trials.append(Trial(seed, float(loss), float(accuracy), 1.0, diverged, History(diverged=diverged)))
        rows.append(row)
    return Sweep(rows, {}, 5000, samples, "numpy", "one after the other", repeats=repeats)


@pytest.fixture(scope="module")
def result():
    return sweep(SPACE, X, Y, repeats=2, **OPTIONS)


# ---- settings -------------------------------------------------------------------------------------------------------


def test_a_grid_has_every_combination_once():
    space = {"learning_rate": np.array([0.1, 0.2]), "batch_size": [16, 32, 16]}
    settings = list_settings(space)
    assert sorted((s["learning_rate"], s["batch_size"]) for s in settings) == [
        (0.1, 16),
        (0.1, 32),
        (0.2, 16),
        (0.2, 32),
    ]


def test_parameters_of_another_optimizer_are_left_out():
    space = {"optimizer": ["sgd", "adam"], "momentum": [0.0, 0.9], "learning_rate": [0.1]}
    settings = list_settings(space, fixed={"nesterov": False})
    assert [(s["optimizer"], s.get("momentum")) for s in settings] == [("sgd", 0.0), ("adam", None), ("sgd", 0.9)]
    _, fit = make_arguments({"optimizer": "adam", "momentum": 0.9, "learning_rate": 0.5}, 4, np.arange(3))
    assert fit["optimizer"] == fastnn.Adam(0.5)


def test_draws_are_those_of_the_seed_and_can_be_typed():
    space = {"learning_rate": loguniform(0.001, 1), "width": loguniform(8, 64), "dropout": uniform(0, 0.5)}
    first, again, other = (list_settings(space, random=20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 20
    for setting in first:
        assert float(f"{setting['learning_rate']:.3g}") == setting["learning_rate"]
        assert type(setting["width"]) is int
        assert 8 <= setting["width"] <= 64
    assert np.median([s["learning_rate"] for s in list_settings(space, random=200)]) == pytest.approx(0.032, rel=0.5)
    assert {type(s["depth"]) for s in list_settings({"depth": randint(1, 4)}, random=9)} == {int}


def test_more_draws_than_a_grid_has_are_the_grid():
    assert len(list_settings(SPACE, random=99)) == 4
    assert len(list_settings(SPACE, random=3)) == 3
    assert len(list_settings([{"width": [8, 16]}, {"depth": [1, 2]}])) == 4


@pytest.mark.parametrize(
    ("space", "options", "words"),
    [
        ({}, {}, "nothing to sweep"),
        ({"lerning_rate": [1]}, {}, "did you mean 'learning_rate'"),
        ({"learning_rate": 0.1}, {}, "list of values"),
        ({"hidden": "relu"}, {}, "list of values"),
        ({"width": []}, {}, "no values"),
        ({"learning_rate": loguniform(0.1, 1)}, {}, "random="),
        (SPACE, {"random": 0}, "random must be"),
        (SPACE, {"fixed": {"width": 3}}, "both swept and fixed"),
        (SPACE, {"fixed": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"optimizer": ["adam", "rmsprop"], "momentum": [0.5]}, {}, "no optimizer of this sweep takes it"),
        (SPACE, {"fixed": {"optimizer": "adam", "nesterov": True}}, "nesterov: no optimizer"),
    ],
)
def test_wrong_spaces(space, options, words):
    with pytest.raises(ValueError, match=words):
        list_settings(space, **options)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [4, 128, 3]),
        ({"width": 8}, [4, 8, 3]),
        ({"width": "16-8"}, [4, 16, 8, 3]),
        ({"width": "16,8"}, [4, 16, 8, 3]),
        ({"width": (16, 8)}, [4, 16, 8, 3]),
        ({"width": 8, "depth": 3}, [4, 8, 8, 8, 3]),
        ({"width": 8, "output": "identity"}, [4, 8, 1]),
    ],
)
def test_shapes(options, sizes):
    network, _ = make_arguments(options, 4, np.array([0, 1, 2]))
    assert network["sizes"] == sizes


def test_outputs_follow_from_the_targets():
    assert make_arguments({"output": "sigmoid"}, 4, np.array([0, 1, 1]))[0]["sizes"][-1] == 1
    assert make_arguments({"output": "sigmoid"}, 4, np.zeros((5, 7)))[0]["sizes"][-1] == 7


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_is_what_fit_does_alone_on_the_part_that_is_not_held_out(result):
    x, x_val, y, y_val = train_test_split(X, Y, test_size=0.1, random_state=0, stratify=Y)
    net = fastnn.Network([784, 12, 8, 10], seed=1, backend="numpy", threads=1)
    history = net.fit(x, y, epochs=2, batch_size=32, optimizer="sgd(0.1)", validation_data=(x_val, y_val))
    row = next(row for row in result.rows if row.settings == {"learning_rate": 0.1, "width": "12-8"})
    assert [trial.seed for trial in row.trials] == [0, 1]
    assert row.trials[1].history.loss == history.loss
    assert row.trials[1].accuracy == history.val_accuracy[-1] != row.trials[0].accuracy
    assert (result.training_samples, result.validation_samples) == (540, 60)


def test_processes_give_what_one_after_the_other_gives(result):
    side = sweep(SPACE, X, Y, repeats=2, **OPTIONS | {"jobs": 2, "threads": 2})
    assert (side.way, result.way) == ("2 processes, 1 thread each", "one after the other, 1 thread each")
    assert trials(side) == trials(result)
    assert trials(sweep(SPACE, X, Y, repeats=2, **OPTIONS, seed=1)) != trials(result)
    np.testing.assert_array_equal(side.network.parameters, result.network.parameters)


def test_train_many_gives_what_one_after_the_other_gives(result, monkeypatch):
    monkeypatch.setattr(sweeping, "_is_interpreted", lambda *arguments: False)
    monkeypatch.setattr(sweeping, "_TOGETHER", 3)  # so that there are several groups
    side = sweep(SPACE, X, Y, repeats=2, **OPTIONS | {"jobs": 2})
    assert side.way == "2 side by side"
    assert trials(side) == trials(result)


def test_which_backends_are_interpreted():
    plan = sweeping._Plan(0, {"sizes": [4, 3, 2]}, {})
    assert [sweeping._is_interpreted(resolve_backend(name), plan) for name in ("numpy", "numba")] == [True, False]


@pytest.mark.parametrize("together", [False, True])
def test_settings_that_diverge_are_rows_marked_so(together, monkeypatch, capsys):
    monkeypatch.setattr(sweeping, "_is_interpreted", lambda *arguments: not together)
    space = {"learning_rate": [1e30, 0.1]}
    found = sweep(space, X, Y, **OPTIONS | {"jobs": 2 if together else 1}, verbose=True)
    assert [row.diverged for row in found.ranked()] == [False, True]
    assert found.best.settings == {"learning_rate": 0.1}
    assert "diverged" in found.table().splitlines()[2]
    assert "first run done after" in capsys.readouterr().err


def test_all_diverged():
    found = sweep({"learning_rate": [1e30, 1e20]}, X, Y, hidden="identity", output="identity", **OPTIONS)
    assert found.best is None
    assert found.network is None
    assert "no setting has come to an end" in found.table()
    with pytest.raises(fastnn.DataError, match="nothing to draw"):
        sweep_panels(found)


def test_only_the_best_setting_s_networks_are_kept(result):
    assert {id(row): all(t.network for t in row.trials) for row in result.rows} == {
        id(row): row is result.best for row in result.rows
    }
    best = max(result.best.trials, key=lambda trial: trial.accuracy)
    assert result.network is best.network


def test_given_validation_data_rank_and_nothing_is_held_out():
    """Labels that no network can know of: who is best by them is worst by the true ones."""
    space = {"learning_rate": [0.0001, 0.1]}
    assert sweep(space, X, Y, validation_data=(X, Y), **OPTIONS).best.settings["learning_rate"] == 0.1
    false = sweep(space, X, Y, validation_data=(X, (Y + 1) % 10), **OPTIONS)
    assert false.best.settings["learning_rate"] == 0.0001
    assert false.training_samples == len(X)


def test_regression_is_ranked_by_loss():
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    found = sweep({"learning_rate": [0.0001, 0.05]}, x, x[:, 0], output="identity", **OPTIONS)
    assert found.metric == "loss"
    assert found.best.settings["learning_rate"] == 0.05
    assert "accuracy" not in found.table()
    assert "one seed does not tell" in found.table()
    assert found.rivals() == []
    assert sweep_panels(found).axes[0].get_ylabel() == "validation loss"


def test_sample_weights_are_split_with_the_samples():
    weights = np.where(Y < 5, 1.0, 0.0)
    best = sweep({"width": [8, 16]}, X, Y, sample_weight=weights, learning_rate=0.1, **OPTIONS).network
    assert set(best.predict(X)) <= set(range(5))


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (X, Y[:-1], {}, "as many labels"),
        (X[0, 0], Y[:28], {}, "expected samples"),
        (X[:20], Y[:20], {}, "cannot hold out"),
        (X, Y, {"validation_fraction": 1.0}, "less than 1"),
        (X, Y, {"validation_data": X}, "validation_data must be"),
        (X, Y, {"jobs": 0}, "jobs must be"),
        (X, Y, {"repeats": 0}, "repeats must be"),
        (X, Y, {"epochs": 0}, "epochs must be"),
        (X, Y, {"hidden": "rleu"}, "did you mean 'relu'"),
        (X, Y, {"backend": "nunpy"}, "did you mean 'numpy'"),
        (X, Y, {"depth": 0}, "depth must be"),
    ],
)
def test_wrong_arguments_are_known_before_anything_is_trained(x, y, options, words, monkeypatch):
    monkeypatch.setattr(fastnn.Network, "fit", None)
    with pytest.raises((ValueError, fastnn.BackendError), match=words):
        sweep({"learning_rate": [0.1, 0.2]}, x, y, **OPTIONS | options)


def interrupt_after(n, monkeypatch):
    """Have the run after the n-th end by Ctrl-C."""
    fit, calls = fastnn.Network.fit, []

    def counted(self, *arguments, **options):
        calls.append(self)
        if len(calls) > n:
            raise KeyboardInterrupt
        return fit(self, *arguments, **options)

    monkeypatch.setattr(fastnn.Network, "fit", counted)


@pytest.mark.parametrize("together", [False, True])
def test_ctrl_c_keeps_what_is_done(together, monkeypatch):
    if together:
        monkeypatch.setattr(sweeping, "_TOGETHER", 1)
        monkeypatch.setattr(sweeping, "_is_interpreted", lambda *arguments: False)
    interrupt_after(2, monkeypatch)
    found = sweep(SPACE, X, Y, **OPTIONS | {"jobs": 2 if together else 1})
    assert found.interrupted
    assert len(found.ranked()) == 2
    assert found.network is not None


# ---- the word on the noise ------------------------------------------------------------------------------------------


def test_rivals_are_those_within_one_standard_error():
    found = made_up([0.95, 0.955, 0.96, 0.5, math.nan], losses=[[1], [1], [1], [1], [math.nan]])
    assert found.standard_error == pytest.approx(math.sqrt(0.96 * 0.04 / 1000))
    assert [row.mean("accuracy") for row in found.rivals()] == [0.955]
    assert "1 other setting is within one standard error (0.62 %)" in found.table()
    assert made_up([0.95, 0.955, 0.96], samples=10**6).rivals() == []
    assert len(made_up([0.95, 0.955, 0.96], samples=100).rivals()) == 2


def test_seeds_add_to_the_standard_error_and_show_as_spread():
    found = made_up([[0.90, 0.94], [0.91, 0.91]], samples=10**9, repeats=2)
    assert found.standard_error == pytest.approx(0.02, rel=1e-3)  # 0.04 / sqrt(2) over sqrt(2)
    assert "92.00 ± 2.83" in found.table()
    assert len(found.rivals()) == 1
    losses = made_up([[math.nan] * 2] * 2, repeats=2, losses=[[1.0, 3.0], [5.0, 5.0]])
    assert (losses.metric, losses.standard_error) == ("loss", pytest.approx(1.0))
    assert losses.best is losses.rows[0]


def test_settings_with_fewer_seeds_or_a_diverged_one_come_last():
    found = made_up([0.5, [0.4, 0.4], [0.9, math.nan]], repeats=2, losses=[[1], [1, 1], [1, math.nan]])
    assert [len(row.trials) for row in found.ranked()] == [2, 1, 2]
    assert found.best.mean("accuracy") == 0.4
    lines = found.table().splitlines()
    assert "1 of 2 seeds" in lines[2]
    assert "diverged in 1 of 2" in lines[3]


# ---- files and figures ----------------------------------------------------------------------------------------------


def test_json_comes_back(result, tmp_path):
    result.save(tmp_path / "s.json")
    back = Sweep.load(tmp_path / "s.json")
    assert back.table() == result.table()
    assert back.best.trials == result.best.trials
    assert back.network is None
    mixed = made_up([0.9, math.nan], losses=[[1.0], [math.nan]])
    mixed.save(tmp_path / "m.json")
    assert Sweep.load(tmp_path / "m.json").table() == mixed.table()


def test_csv_has_a_line_a_trial(result, tmp_path):
    result.save(tmp_path / "s.csv")
    with open(tmp_path / "s.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    best = result.best
    assert float(lines[0]["val_accuracy"]) == best.trials[0].accuracy
    assert lines[0]["width"] == str(best.settings["width"])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "fastnn sweep 1", "rows": [{}]}', "a,b\n1,2\n"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(fastnn.FileFormatError, match="no sweep saved as JSON"):
        Sweep.load(path)


def test_a_suffix_names_the_format(result, tmp_path):
    with pytest.raises(ValueError, match=r"\.json, \.csv"):
        result.save(tmp_path / "s.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_figure_of_one_hyperparameter_is_a_curve(theme):
    found = made_up(
        [[0.5, 0.52], [0.9, 0.92], [0.97, 0.97], [math.nan, 1]], repeats=2, losses=[[1, 1]] * 3 + [[math.nan, 1]]
    )
    (axes,) = sweep_panels(found, theme=theme).axes
    drawn = {line.get_label(): np.transpose(line.get_data()) for line in axes.lines}
    assert drawn["best"].ravel() == pytest.approx([0.03, 3.0])
    assert drawn["best at each value"].ravel() == pytest.approx([0.01, 49, 0.02, 9, 0.03, 3])
    assert drawn["diverged"][0, 0] == pytest.approx(0.04)
    assert axes.get_yscale() == "log"


def test_a_figure_of_a_grid_of_two_is_a_map(result):
    figure = sweep_panels(result)
    (axes,) = figure.axes
    cells = [text.get_text() for text in axes.texts]
    assert len(cells) == 4
    best = result.best
    assert cells[0] == f"{100 * (1 - best.mean('accuracy')):.2f}\n± {100 * best.spread('accuracy'):.2f}"


def test_a_figure_of_many_has_a_panel_each(tmp_path):
    space = {"learning_rate": loguniform(0.001, 1), "width": [8, "8-8"], "dropout": [0.0, 0.1]}
    found = sweep(space, X[:200], Y[:200], random=14, validation_fraction=0.2, **OPTIONS | {"epochs": 1})
    figure = sweep_panels(found)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in panels] == ["learning rate", "width", "dropout"]
    assert panels[0].get_xscale() == "log"
    assert all(any(line.get_label() == "best" for line in axes.lines) for axes in panels)
    figure.savefig(tmp_path / "f.svg")


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`fastnn sweep` on a few samples, one run after the other."""
    monkeypatch.setitem(cli._COMMANDS, "sweep", (command, "compare settings"))
    path = tmp_path / "few.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=DATA.x_test[:100], y_test=DATA.y_test[:100])
    fixed = ["sweep", "--dataset", str(path), "--backend", "numpy", "--jobs", "1"]
    return lambda *options: cli.main([*fixed, *options])


def test_the_command_prints_a_table_best_first_and_tests_the_best(run, capsys, tmp_path):
    targets = [tmp_path / name for name in ("s.json", "s.png", "m.safetensors")]
    options = ["--out", str(targets[0]), "--plot", str(targets[1]), "--save-best", str(targets[2])]
    assert run("--learning-rate", "0.001,0.1", "--width", "8,12-8", "--epochs", "2", *options) == 0
    captured = capsys.readouterr()
    assert "4 settings, 1 seed each: 4 runs" in captured.out
    assert "one after the other" in captured.out
    assert captured.err.startswith("fastnn: first run done after")
    found, saved = Sweep.load(targets[0]), fastnn.load(targets[2], backend="numpy")
    assert found.best.settings["learning_rate"] == 0.1
    test = saved.evaluate(DATA.x_test[:100], DATA.y_test[:100])
    assert f"test accuracy  {100 * test['accuracy']:.2f} %" in captured.out
    assert targets[1].read_bytes().startswith(b"\x89PNG")


def test_json(run, capsys):
    options = (
        "--learning-rate 0.001..1 --dropout 0..0.5 --depth 1..3 --random 3 --width 8 --epochs 1 --repeats 2 --json"
    )
    assert run(*options.split()) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["command"] == "sweep"
    assert len(content["sweep"]["rows"]) == 3
    assert content["best"] == content["sweep"]["rows"][0]["settings"]
    assert all(0 <= row["settings"]["dropout"] < 0.5 for row in content["sweep"]["rows"])
    assert 0 <= content["test_accuracy"] <= 1


def test_a_preset_is_what_the_options_change(run, capsys):
    options = "--preset quick --momentum 0.5,0.9 --epochs 1 --width 8 --init uniform(-0.1,0.1) --json"
    assert run(*options.split()) == 0
    fixed = json.loads(capsys.readouterr().out)["sweep"]["fixed"]
    assert fixed["nesterov"] is True
    assert fixed["epochs"] == 1
    assert fixed["init"] == "uniform(-0.1,0.1)"
    assert "momentum" not in fixed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "several values"),
        ("--learning-rate 0.1", "several values"),
        ("--learning-rate 0.1,x", "--learning-rate must have values as 0.01,0.1"),
        ("--learning-rate 0.1..1", "--learning-rate: a range needs --random N"),
        ("--learning-rate 0..1 --random 2", "begins above 0"),
        ("--learning-rate 1..0.1 --random 2", "smaller number"),
        ("--width 8,0", "hidden units"),
        ("--optimizer sgd,adem", "did you mean 'adam'"),
        ("--width 8,16 --repeats 0", "repeats must be"),
        ("--width 8,16 --seed -1", "seed must be"),
        ("--width 8,16 --random 0", "random must be"),
        ("--width 8,16 --preset quik", "did you mean 'quick'"),
        ("--width 8,16 --out s.txt", ".json, .csv"),
        ("--width 8,16 --plot s.txt", ".png, .svg"),
        ("--width 8,16 --validation 2", "less than 1"),
    ],
)
def test_wrong_usage_is_exit_code_2_in_a_line(run, capsys, options, words):
    assert run(*options.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_unwritable_files_are_known_before_training(run, capsys):
    for option in ("--out no/s.json", "--plot no/s.png", "--save-best no/m"):
        assert run("--width", "8,16", *option.split()) == 1
        assert "there is no folder no" in capsys.readouterr().err


def test_interrupted_it_prints_what_is_done(run, capsys, monkeypatch, tmp_path):
    interrupt_after(1, monkeypatch)
    assert run("--width", "8,16", "--epochs", "1", "--out", str(tmp_path / "s.csv")) == 130
    output = capsys.readouterr().out
    assert "interrupted" in output
    assert "test accuracy" not in output
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 2


def test_all_diverged_is_exit_code_1(run, capsys):
    options = "--learning-rate 1e20,1e30 --hidden identity --output identity --epochs 1"
    assert run(*options.split()) == 1
    captured = capsys.readouterr()
    assert "lower the learning rates" in captured.err
    assert captured.out.count("diverged") >= 2
