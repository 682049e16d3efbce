"""fastnn's perceptrons in place of scikit-learn's: its own checks, its example, and its numbers to float64 rounding."""

import dataclasses
import inspect
import itertools
import pickle
import textwrap
import warnings

import joblib
import numpy as np
import pytest
import sklearn
import sklearn.datasets
import sklearn.neural_network
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fastnn
import fastnn.sklearn
from fastnn.interchange import from_sklearn
from fastnn.sklearn import MLPClassifier, MLPRegressor

NAMES = ("MLPClassifier", "MLPRegressor")
BINARY = make_classification(60, 8, n_informative=6, random_state=0)
MULTI = make_classification(60, 8, n_informative=6, n_classes=4, random_state=0)
LABELS = make_multilabel_classification(60, 8, n_classes=3, random_state=0)
TARGET, TARGETS = ((x, y / 100) for x, y in (make_regression(60, 8, n_targets=n, random_state=0) for n in (1, 3)))
CASES = {
    "binary": ("MLPClassifier", *BINARY),
    "multi-class": ("MLPClassifier", *MULTI),
    "multi-label": ("MLPClassifier", *LABELS),
    "regression": ("MLPRegressor", *TARGET),
    "multi-output": ("MLPRegressor", *TARGETS),
}


def pair(name, **options):
    """scikit-learn's estimator and ours, made alike."""
    options = {
        "hidden_layer_sizes": (7, 5),
        "random_state": 3,
        "max_iter": 12,
        "shuffle": False,
        "alpha": 0.3,
        **options,
    }
    ours = getattr(fastnn.sklearn, name)(**options, dtype="float64", backend="numpy")
    return getattr(sklearn.neural_network, name)(**options), ours


def quick(**options):
    options = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0, "tol": 0.0, "backend": "numpy", **options}
    return MLPClassifier(**options)


def assert_same(theirs, ours, rtol=1e-9):
    """Weights, losses, scores and counts."""
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(theirs, name), getattr(ours, name), strict=True):
            np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol, err_msg=name)
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
        if getattr(theirs, name, None) is not None:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol, err_msg=name)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.fixture(autouse=True)
def _one_thread_and_too_few_epochs(monkeypatch, request):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "1")  # for so little work, more only wait for one another
    if "converges" not in request.node.name:
        warnings.filterwarnings("ignore", category=ConvergenceWarning)


# ---------------------------------------------------------------- scikit-learn's own checks

FEW = {"hidden_layer_sizes": (8,), "max_iter": 20, "learning_rate_init": 0.1, "tol": 0.05, "n_iter_no_change": 3}
ROUNDING = {
    f"check_sample_weight_equivalence_on_{kind}_data": "wants 1e-7, which is float32's rounding"
    for kind in ("dense", "sparse")
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_scikit_learn_s_checks(name, dtype):
    estimator = getattr(fastnn.sklearn, name)(**FEW, dtype=dtype, backend="numpy")
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 55
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= (set(ROUNDING) if dtype == "float32" else set())


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_s_checks_reject_what_is_wrong():
    @dataclasses.dataclass(eq=False, repr=False)
    class Wrong(MLPRegressor):
        def __post_init__(self):
            self.made = True

    with pytest.raises(AssertionError, match="made"):
        check_estimator(Wrong(backend="numpy"), on_skip=None)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_the_same_names_defaults_and_places(name):
    theirs, ours = (inspect.signature(getattr(m, name)).parameters for m in (sklearn.neural_network, fastnn.sklearn))
    assert {p: (v.default, v.kind) for p, v in theirs.items()}.items() <= {
        p: (v.default, v.kind) for p, v in ours.items()
    }.items()
    by_position = [p for p, v in ours.items() if v.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert by_position == [p for p, v in theirs.items() if v.kind is not inspect.Parameter.KEYWORD_ONLY]


# ---------------------------------------------------------------- scikit-learn's numbers

SETTINGS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05, "batch_size": 20},
    "plain sgd": {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0, "activation": "logistic"},
    "invscaling": {"solver": "sgd", "learning_rate_init": 0.5, "momentum": 0.0, "learning_rate": "invscaling"},
    "adam": {"learning_rate_init": 0.05, "epsilon": 1e-30, "activation": "tanh"},
    "lbfgs": {"solver": "lbfgs"},
}


# With several outputs scikit-learn gives lbfgs the mean of their losses, but the gradient of the sum.
COMPARABLE = [both for both in itertools.product(CASES, SETTINGS) if both != ("multi-output", "lbfgs")]


@pytest.mark.parametrize(("case", "setting"), COMPARABLE)
def test_same_weights_losses_and_answers(case, setting):
    name, X, y = CASES[case]
    options = SETTINGS[setting]
    one_batch = {} if "batch_size" in options else {"batch_size": 60}
    theirs, ours = (estimator.fit(X, y) for estimator in pair(name, **options, **one_batch))
    if setting == "sgd":  # our loss takes the penalty as linear over the epoch's three mini-batches
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0.02)
        ours.loss_curve_, ours.loss_, ours.best_loss_ = theirs.loss_curve_, theirs.loss_, theirs.best_loss_
    assert_same(theirs, ours)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y))
    if name == "MLPClassifier":
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_poisson_regression_is_scikit_learn_s(setting, n_outputs):
    if (n_outputs, setting) == (2, "lbfgs"):
        return  # see COMPARABLE
    X, options = TARGET[0], SETTINGS[setting] | {"batch_size": 60}
    y = np.random.default_rng(0).poisson(2, (60, n_outputs)).squeeze()
    theirs, ours = (estimator.fit(X, y) for estimator in pair("MLPRegressor", loss="poisson", **options))
    assert_same(theirs, ours, rtol=1e-8)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-8)
    assert from_sklearn(theirs, backend="numpy").output == "exp"
    with pytest.raises(ValueError, match="targets of poisson must be at least 0: row 0 holds"):
        ours.fit(X, y - 100.0)


def test_momentum_may_be_1():
    theirs, ours = pair("MLPClassifier", solver="sgd", momentum=1, learning_rate_init=0.001, batch_size=60)
    assert_same(theirs.fit(*MULTI), ours.fit(*MULTI))


def test_another_alpha_is_not_the_same():
    theirs, ours = pair("MLPClassifier", **SETTINGS["plain sgd"], batch_size=60)
    with pytest.raises(AssertionError, match="coefs_"):
        assert_same(theirs.fit(*MULTI), ours.set_params(alpha=0.301).fit(*MULTI))


def test_sample_weights():
    weight = np.random.default_rng(0).uniform(0, 2, 60)
    theirs, ours = pair("MLPClassifier", solver="sgd", learning_rate_init=0.05, batch_size=60)
    assert_same(theirs.fit(*MULTI, sample_weight=weight), ours.fit(*MULTI, sample_weight=weight))


@pytest.mark.parametrize("case", ["binary", "multi-class", "regression"])
def test_early_stopping_on_the_same_split(case):
    name, X, y = CASES[case]
    options = {"early_stopping": True, "n_iter_no_change": 2, "validation_fraction": 0.3, "max_iter": 60, "tol": 0.02}
    theirs, ours = pair(name, solver="sgd", learning_rate_init=0.05, batch_size=42, **options)
    assert_same(theirs.fit(X, y), ours.fit(X, y))
    assert ours.n_iter_ < 60
    assert ours.best_loss_ is theirs.best_loss_ is None


def test_adaptive_learning_rate(capsys):
    said = []
    for estimator in pair(
        "MLPClassifier", solver="sgd", learning_rate="adaptive", learning_rate_init=1e-4, momentum=0.0, batch_size=60,
        n_iter_no_change=1, tol=1.0, verbose=True, max_iter=50,
    ):  # fmt: skip
        estimator.fit(*BINARY)
        said.append((capsys.readouterr().out, estimator.n_iter_))
    assert said[0] == said[1]
    assert "Setting learning rate to" in said[0][0]
    assert "Stopping." in said[0][0]


def test_adam_s_epsilon_weighs_less_than_scikit_learn_s():
    theirs, ours = (e.fit(*MULTI) for e in pair("MLPClassifier", learning_rate_init=0.05, batch_size=60))
    assert_same(theirs, ours, rtol=1e-2)
    with pytest.raises(AssertionError):
        assert_same(theirs, ours, rtol=1e-7)


@pytest.mark.parametrize("options", [SETTINGS["adam"], SETTINGS["sgd"] | {"batch_size": 60}], ids=["adam", "sgd"])
def test_partial_fit_keeps_the_optimizer_s_state(options):
    theirs, ours = pair("MLPClassifier", **options)
    afresh = clone(ours)
    for X, y in ((MULTI[0][:40], MULTI[1][:40]), (MULTI[0][40:], MULTI[1][40:]), MULTI) * 2:
        if "batch_size" in options:
            X, y = np.tile(X, (3, 1))[:60], np.tile(y, 3)[:60]
        for estimator in (theirs, ours, afresh):
            estimator.partial_fit(X, y, classes=np.arange(4))
        afresh._state = None
    assert_same(theirs, ours)
    with pytest.raises(AssertionError):
        assert_same(theirs, afresh)
    assert (ours.history_.epochs, len(ours.loss_curve_)) == (1, 6)  # of the last call, and of all


def test_a_stream_of_calls_of_partial_fit_keeps_a_loss_a_call_and_nothing_more():
    model = MLPClassifier((4,), random_state=0, backend="numpy")
    X, y = MULTI
    model.partial_fit(X, y, classes=np.arange(4))
    sizes = []
    for _ in range(3):
        for i in range(40):
            model.partial_fit(X[i : i + 1], y[i : i + 1])
        sizes.append(len(pickle.dumps(model)))
    assert np.diff(sizes).max() <= 40 * 24
    assert model.history_.epochs == 1
    assert model.network_.epochs_trained == len(model.loss_curve_) == 121


def test_warm_start_goes_on():
    theirs, ours = pair("MLPRegressor", solver="sgd", learning_rate_init=0.05, batch_size=60, warm_start=True)
    for estimator in (theirs, ours):
        estimator.fit(*TARGET).fit(*TARGET)
    assert_same(theirs, ours)
    assert len(ours.loss_curve_) == 24
    with pytest.raises(ValueError, match="cannot go on with a network 8-7-5-1 as 8-9-1"):
        ours.set_params(hidden_layer_sizes=(9,)).fit(*TARGET)


def test_coefficients_can_be_set_as_a_whole_only():
    theirs, ours = pair("MLPClassifier", solver="sgd", learning_rate_init=0.05, batch_size=60, warm_start=True)
    for estimator in (theirs, ours):
        estimator.partial_fit(*MULTI, classes=np.arange(4))
        estimator.coefs_ = [np.full_like(W, 0.1) for W in estimator.coefs_]
        estimator.intercepts_ = [np.full_like(b, 0.2) for b in estimator.intercepts_]
        estimator.fit(*MULTI)
    assert_same(theirs, ours)
    with pytest.raises(ValueError, match="read-only"):
        ours.coefs_[0][0, 0] = 1
    with pytest.raises(ValueError, match="expected W of shape"):
        ours.coefs_ = [np.zeros((1, 1))] * 3


# ---------------------------------------------------------------- scikit-learn's example

EXAMPLE = """
    import warnings
    import matplotlib.pyplot as plt
    from sklearn.datasets import fetch_openml
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
    X = X / 255.0
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, test_size=0.7)
    mlp = MLPClassifier(
        hidden_layer_sizes=(40,), max_iter=2, alpha=1e-4, solver="sgd", verbose=10, random_state=1,
        learning_rate_init=0.2,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        mlp.fit(X_train, y_train)
    scores = mlp.score(X_train, y_train), mlp.score(X_test, y_test)
    fig, axes = plt.subplots(4, 4)
    vmin, vmax = mlp.coefs_[0].min(), mlp.coefs_[0].max()
    for coef, ax in zip(mlp.coefs_[0].T, axes.ravel()):
        ax.matshow(coef.reshape(28, 28), cmap=plt.cm.gray, vmin=0.5 * vmin, vmax=0.5 * vmax)
    plt.close(fig)
"""


def test_scikit_learn_s_mnist_example_runs_with_the_import_changed(monkeypatch, capsys):
    """plot_mnist_filters.py, on digits of MNIST's form, and too few epochs to converge."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("FASTNN_BACKEND", "numpy")
    data = fastnn.datasets.load("digits")
    images, labels = data.x_train[:2000].reshape(-1, 784).astype(np.float64), data.y_train[:2000].astype(str)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda *args, **options: (images, labels.astype(object)))
    theirs, ours = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        exec(textwrap.dedent(EXAMPLE), theirs)
        exec(textwrap.dedent(EXAMPLE).replace("sklearn.neural_network", "fastnn.sklearn"), ours)
    assert isinstance(ours["mlp"], MLPClassifier)
    assert ours["scores"] == pytest.approx(theirs["scores"], abs=0.1)
    assert ours["scores"][1] > 0.5
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("=")[0] for line in lines[:2]] == [line.split("=")[0] for line in lines[2:]]


# ---------------------------------------------------------------- labels and data


@pytest.mark.parametrize(
    "names",
    [["no", "yes"], [False, True], [-1, 1], ["c", "a", "b", "d"], [3, 1, 40, 2]],
    ids=lambda names: str(names[0]),
)
def test_labels_of_any_type(names):
    X, y = BINARY if len(names) == 2 else MULTI
    clf = quick(max_iter=100, learning_rate_init=0.05).fit(X, np.array(names)[y])
    assert clf.classes_.tolist() == sorted(names)
    assert clf.predict(X).dtype == clf.classes_.dtype
    assert clf.score(X, np.array(names)[y]) > 0.9
    assert clf.predict_proba(X).shape == (60, len(names))
    assert (clf.classes_[clf.predict_proba(X).argmax(axis=1)] == clf.predict(X)).all()


def test_labels_that_do_not_fit():
    with pytest.raises(ValueError, match="several labels a sample must be given as columns of 0 and 1"):
        quick().fit(BINARY[0], np.column_stack([MULTI[1], MULTI[1]]))
    with pytest.raises(ValueError, match="must be passed on the first call"):
        quick().partial_fit(*BINARY)
    clf = quick().partial_fit(*BINARY, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="not what it was before"):
        clf.partial_fit(*BINARY, classes=[0, 1])
    with pytest.raises(ValueError, match="previously unseen labels"):
        clf.partial_fit(*MULTI)
    with pytest.raises(ValueError, match="as it was before"):
        clf.partial_fit(*LABELS)
    assert clf.partial_fit(*BINARY).n_outputs_ == 3


def test_several_labels_a_sample():
    clf = quick().partial_fit(*LABELS)
    assert clf.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(clf.predict(LABELS[0]), clf.predict_proba(LABELS[0]) > 0.5)
    sparse_y = quick(shuffle=False).fit(LABELS[0], sparse.csr_matrix(LABELS[1]))
    np.testing.assert_array_equal(sparse_y.coefs_[0], quick(shuffle=False).fit(*LABELS).coefs_[0])
    stopped = quick(early_stopping=True).fit(*LABELS)
    assert stopped.best_validation_score_ == max(stopped.validation_scores_)


def test_samples_of_any_kind():
    images = np.random.default_rng(0).integers(0, 3, (60, 8))
    expected = quick().fit(images.astype(np.float64), MULTI[1]).coefs_[0]
    for X in (images, images.astype(np.uint8), images.tolist(), sparse.csr_matrix(images), sparse.csc_array(images)):
        clf = quick().fit(X, MULTI[1])
        np.testing.assert_array_equal(clf.coefs_[0], expected)
        assert clf.predict(X).shape == (60,)


def test_class_weights_are_sample_weights():
    y = np.where(MULTI[1] == 0, "rare", "often")
    weights = {"rare": 3.0, "often": 0.5}
    expected = quick().fit(MULTI[0], y, sample_weight=[weights[label] for label in y]).coefs_[0]
    np.testing.assert_array_equal(quick(class_weight=weights).fit(MULTI[0], y).coefs_[0], expected)
    balanced = {label: 60 / (2 * (y == label).sum()) for label in weights}
    expected = quick(class_weight=balanced).fit(MULTI[0], y).coefs_[0]
    np.testing.assert_array_equal(quick(class_weight="balanced").fit(MULTI[0], y).coefs_[0], expected)
    with pytest.raises(ValueError, match="class_weight='balanced'"):
        quick(class_weight="balanced").partial_fit(MULTI[0], y, classes=["often", "rare"])


def test_validation_data_of_one_s_own():
    X, y = MULTI
    clf = quick(early_stopping=True, max_iter=40, n_iter_no_change=3).fit(
        X[:40], y[:40], validation_data=(X[40:], y[40:])
    )
    assert clf.history_.samples == 40
    assert len(clf.history_.val_accuracy) == clf.n_iter_
    assert clf.validation_scores_ == pytest.approx(clf.history_.val_accuracy)
    assert clf.score(X[40:], y[40:]) == clf.best_validation_score_ == max(clf.validation_scores_)
    watched = quick().fit(X, y, validation_data=(X, y, np.ones(60)))
    assert watched.validation_scores_ is None
    assert watched.history_.val_accuracy[-1] == pytest.approx(watched.score(X, y))
    for wrong, words in ((X, "must be"), ((X, y + 9), "unseen"), ((X[:, :3], y), "3 features")):
        with pytest.raises(ValueError, match=words):
            quick().fit(X, y, validation_data=wrong)


# ---------------------------------------------------------------- how training ends


def test_what_never_converges_warns_and_what_converges_does_not():
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        quick().fit(*MULTI)
    with pytest.warns(ConvergenceWarning, match="lbfgs ended before"):
        quick(solver="lbfgs").fit(*MULTI)
    clf = quick(max_iter=200, tol=0.5).fit(*MULTI)
    assert clf.n_iter_ < 30


def test_interrupted(monkeypatch):
    def interrupt(self, words):
        if len(self.loss_curve_) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("fastnn.sklearn.MLPClassifier._say", interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        clf = quick().fit(*MULTI)
    assert (clf.n_iter_, clf.predict(MULTI[0]).shape) == (3, (60,))


def test_divergence_is_an_error_of_scikit_learn_s_type():
    with pytest.raises(ValueError, match=r"Solver produced non-finite parameter weights: .* lower the learning rate"):
        MLPRegressor(solver="sgd", learning_rate_init=1e6, backend="numpy").fit(TARGET[0] * 1e3, TARGET[1])


def test_batches_larger_than_the_data_are_clipped():
    with pytest.warns(UserWarning, match="more than the 60 samples"):
        assert quick(batch_size=61).fit(*MULTI).t_ == 300


# ---------------------------------------------------------------- parameters of our own


def test_own_parameters_reach_the_network():
    clf = quick(dropout=0.25, threads=1, dtype="float64").fit(*MULTI)
    net = clf.network_
    assert (net.backend, net.dtype, net.threads, net.dropout) == ("numpy", np.float64, 1, (0.0, 0.25))
    options = {"solver": "sgd", "learning_rate_init": 1.0, "momentum": 0.0, "alpha": 0.0, "max_iter": 1}
    moved = [
        np.concatenate([(a - b).ravel() for a, b in zip(after.coefs_, before.coefs_, strict=True)])
        for before, after in [
            (quick(**options | {"learning_rate_init": 1e-30}).fit(*MULTI), quick(**options, clip_norm=clip).fit(*MULTI))
            for clip in (None, 0.01)
        ]
    ]
    assert np.linalg.norm(moved[0]) > 0.1
    assert 0.005 < np.linalg.norm(moved[1]) < 0.0101


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "newton"}, "'solver' parameter"),
        ({"alpha": -1}, "'alpha' parameter"),
        ({"hidden_layer_sizes": (-3,)}, "at least 1, got -3"),
        ({"momentum": 1.1, "solver": "sgd"}, "'momentum' parameter"),
        ({"dtype": "int8"}, "dtype"),
        ({"dropout": 2.0}, "dropout"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"solver": "lbfgs", "dropout": 0.5, "clip_norm": 1.0}, "takes no dropout, clip_norm"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "validation set is too small"),
    ],
)
def test_wrong_parameters(options, words):
    with pytest.raises(ValueError, match=words):
        quick(**options).fit(*MULTI)


def test_wrong_use():
    with pytest.raises(ValueError, match="loss must be one of 'squared_error', 'poisson', got 'gamma'"):
        MLPRegressor("gamma").fit(*TARGET)
    with pytest.raises(fastnn.BackendError, match="abacus"):
        quick(backend="abacus").fit(*MULTI)
    with pytest.raises(ValueError, match="must not all be zero"):
        quick(class_weight=dict.fromkeys(range(4), 0)).fit(*MULTI)
    with pytest.raises(ValueError, match="does not support early_stopping"):
        quick(early_stopping=True).partial_fit(*MULTI, classes=range(4))
    with pytest.raises(NotFittedError):
        quick().predict(MULTI[0])
    assert not hasattr(quick(), "coefs_")
    assert not hasattr(quick(solver="lbfgs"), "partial_fit")


# ---------------------------------------------------------------- with the rest of scikit-learn


def test_pickled_and_copied_it_goes_on_as_it_would(tmp_path):
    clf = quick().partial_fit(*MULTI, classes=range(4))
    joblib.dump(clf, tmp_path / "clf")
    copies = [pickle.loads(pickle.dumps(clf)), joblib.load(tmp_path / "clf")]
    expected = clf.partial_fit(*MULTI).predict_proba(MULTI[0])
    for copy in copies:
        np.testing.assert_array_equal(copy.partial_fit(*MULTI).predict_proba(MULTI[0]), expected)
    assert clone(clf).get_params() == clf.get_params()


def test_searches_in_processes_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), quick(tol=10.0, n_iter_no_change=1)),
        {"mlpclassifier__alpha": [0.001, 1.0]},
        scoring={"accuracy": "accuracy", "threads": lambda fitted, X, y: fitted[-1].network_.threads},
        refit="accuracy",
        cv=2,
        n_jobs=2,
    ).fit(*MULTI)
    assert set(search.cv_results_["mean_test_threads"]) == {max(1, joblib.cpu_count() // 2)}
    assert search.best_estimator_[-1].network_.threads == joblib.cpu_count()
    assert search.predict(MULTI[0]).shape == (60,)


@pytest.mark.parametrize(
    ("argument", "own", "openmp", "threads"), [(3, "2", "1", 3), (None, "2", "1", 2), (None, "", "1", 1)]
)
def test_threads(monkeypatch, argument, own, openmp, threads):
    monkeypatch.setenv("FASTNN_NUM_THREADS", own)
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    assert quick(threads=argument, max_iter=1).fit(*MULTI).network_.threads == threads


@pytest.mark.parametrize(
    ("given", "asked", "expected"),
    [
        ("float64", None, "float64"),
        ("float32", None, "float32"),
        ("uint8", None, "float64"),
        ("float64", "float32", "float32"),
        ("float32", "float64", "float64"),
    ],
)
def test_arithmetic_is_of_the_samples_dtype_unless_said(given, asked, expected):
    X = (10 * MULTI[0]).astype(given)
    assert quick(dtype=asked, max_iter=1).fit(X, MULTI[1]).network_.dtype == expected


def test_first_rows_of_one_label_each_do_not_decide_what_labels_are():
    x = np.random.default_rng(0).random((6, 4))
    several = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]])
    classifier = MLPClassifier((4,), random_state=0, backend="numpy")
    classifier.partial_fit(x[2:4], several[2:4]).partial_fit(x, several)
    assert classifier.predict(x[:1]).shape == (1, 3)
    regressor = MLPRegressor(hidden_layer_sizes=(4,), random_state=0, backend="numpy")
    regressor.partial_fit(x[2:4], several[2:4].astype(float)).partial_fit(x, 3.0 * several)
    assert regressor.predict(x[:1]).shape == (1, 3)


@pytest.mark.parametrize("name", ["coefs_", "intercepts_"])
def test_a_layer_s_arrays_can_be_set_one_by_one(name):
    model = MLPClassifier((4,), max_iter=20, tol=10, n_iter_no_change=1, random_state=0, backend="numpy")
    model.fit(np.random.default_rng(0).random((30, 4)), np.arange(30) % 3)
    layers = getattr(model, name)
    layers[-1] = np.zeros_like(layers[-1])
    assert not getattr(model, name)[-1].any()
    assert not layers[-1].any()
    for i, array in enumerate(getattr(model, name)):
        getattr(model, name)[i] = array + 1
    np.testing.assert_array_equal(getattr(model, name)[-1], np.ones_like(layers[-1]))
    with pytest.raises(AttributeError):
        layers.pop()
    with pytest.raises(ValueError, match="shape"):
        layers[0] = np.zeros(7)
