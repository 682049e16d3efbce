"""The kernels: one module a backend, with the same functions in each.

``contract`` has the specification of each, ``numpy_kernels`` is the reference. ``codes`` holds the few integers on
which compiled code branches: tasks, and what follows back-propagation.
"""
