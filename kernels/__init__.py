"""The kernels: one module a backend, with the same functions in each.

``numpy_kernels`` is the contract: its docstrings are the specification, its bodies the reference. ``codes`` holds
the integers by which kernels and `fastnn.step` speak of activations, losses and optimizers.
"""
