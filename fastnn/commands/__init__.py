"""The commands of ``fastnn``: one module each, with its options and what it does; `fastnn.cli` puts them together."""
