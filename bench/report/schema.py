"""The schema of the results of `fastnn bench`: seconds, bytes, samples/s and FLOP/s everywhere, errors relative.

Files may have more keys than these, and any part may be missing from a file: see `results`.
"""

from typing import TypedDict


class Contender(TypedDict):
    kind: str  # backend, control, yardstick, peer
    backend: str | None
    precision: str | None  # of its products, where that is not the network's


class Check(TypedDict):
    contender: str
    sizes: list[int]  # empty where nothing could be checked; `quantity` says why
    quantity: str  # of a network, or a kernel with its shape
    error: float | None  # relative to the largest value; None: not finite
    tolerance: float
    passed: bool


class Launch(TypedDict):
    seconds: dict[str, list[float]]  # of an epoch, by contender and round
    peaks: dict[str, list[float]]  # FLOP/s that the machine reaches, measured beside each contender


class Summary(TypedDict):
    seconds: list[float]  # of an epoch: lower quartile, median, upper quartile
    samples_per_second: float
    flops_per_second: float
    share_of_peak: float | None
    n: int


class Comparison(TypedDict):
    ratio: float  # how many times as fast
    low: float
    high: float
    verdict: str


class Case(TypedDict):
    sizes: list[int]
    batch_size: int
    precision: str | None
    samples: int  # of an epoch
    steps: int  # of an epoch
    flops: float  # of an epoch
    launches: list[Launch]
    memory: dict[str, dict[str, float | None]]  # at most: host_peak and device_peak
    summary: dict[str, Summary]
    comparisons: dict[str, Comparison]  # with the reference
    control: Comparison | None
    fastest: str | None


class Kernel(TypedDict):
    contender: str
    kernel: str
    shape: str
    flops: float
    bytes: float
    seconds: list[float]  # of a call
    launches: list[list[float]]  # the same by launch and round
    error: float | None
    tolerance: float | None


class Roofline(TypedDict):
    threads: int | None
    peaks: list[float]
    launch_peaks: list[list[float]]
    bandwidths: list[float]
    kernels: list[Kernel]


class Run(TypedDict):
    contender: str
    seconds: list[float]  # of training until the end of each epoch
    accuracy: list[float]


class Reached(TypedDict):
    accuracy: list[float | None]  # mean, standard deviation, least, most
    seconds_to: dict[str, list[float] | None]  # by goal: lower quartile, median, upper quartile
    n: int


class Accuracy(TypedDict):
    recipe: dict[str, object]
    goals: list[float]
    runs: list[Run]
    summary: dict[str, Reached]
    limit: float | None  # seconds to the last goal
    passed: bool | None


class Distance(TypedDict):
    largest: float | None
    step: int


class Curves(TypedDict):
    sizes: list[int]
    batch_size: int | None
    precision: str | None
    seed: int | None
    optimizer: str | None
    losses: dict[str, list[float | None]]  # of each mini-batch
    reference: str | None
    divergence: dict[str, Distance]
    tolerance: float | None
    divergence_float64: dict[str, Distance]
    tolerance_float64: float | None
    passed: bool | None


class Cell(TypedDict):
    width: int
    batch_size: int
    fastest: str | None
    ahead: Comparison | None  # of the second


class Crossover(TypedDict):
    hidden_layers: int | None
    widths: list[int]
    batch_sizes: list[int]
    cells: list[Cell]


class Startup(TypedDict):
    contender: str
    import_seconds: float | None
    compile_cold_seconds: float | None
    compile_warm_seconds: float | None
    first_batch_seconds: float | None


class Prediction(TypedDict):
    samples: int  # of a call
    seconds: dict[str, list[float]]  # of a call: lower quartile, median, upper quartile
    comparisons: dict[str, Comparison]


class Predictions(TypedDict):
    sizes: list[int]
    threads: int | None
    reference: str | None  # of the comparisons
    rows: list[Prediction]


class Agreement(TypedDict):
    backend: str
    precision: str
    loss_difference: float | None  # relative
    accuracy: float | None
    accuracy_difference: float | None  # in percentage points
    passed: bool
    error: str | None


class Agreements(TypedDict):
    """Of training on a device with the same on the CPU."""

    epochs: int | None
    case: str | None
    limits: dict[str, float | None]
    runs: list[Agreement]
    skipped: dict[str, str]


class Ratio(TypedDict):
    median: float
    interval: list[float]


class Many(TypedDict):
    """Networks that are trained at once, against one alone."""

    networks: int | None
    case: str | None
    limits: dict[str, float | None]
    rounds: list[object]
    medians: dict[str, dict[str, float]]  # seconds of one and of many, by how they are measured
    ratios: dict[str, Ratio]
    loss_difference: float | None
    passed: bool | None
    skipped: str | None
    error: str | None


class Results(TypedDict):
    schema_version: int
    kind: str
    level: str | None
    command: str | None
    seconds: float | None
    budget: float | None
    interrupted: bool | None
    environment: dict[str, object]
    dataset: dict[str, object]
    backends: dict[str, dict[str, object]]  # state, reason, remedy
    contenders: dict[str, Contender]
    reference: str | None
    control: list[str]  # a contender, and its second process; or nothing
    skipped: dict[str, str]
    gate: list[Check]
    throughput: list[Case]
    roofline: Roofline
    accuracy: Accuracy
    curves: Curves
    crossover: Crossover
    startup: list[Startup]
    prediction: Predictions
    agreement: Agreements
    many: Many
