"""Named choices: from what a user typed to the object meant, with the choices and the nearest name on a miss."""

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["check_choice", "parse_choice"]


def check_choice(kind: str, name: object, choices: Iterable[str]) -> str:
    """Return `name` if it is one of `choices`, else raise a ValueError that lists them and suggests the nearest.

    >>> check_choice("loss", "cross_entropi", ["cross_entropy", "quadratic"])
    Traceback (most recent call last):
    ...
    ValueError: unknown loss 'cross_entropi'; did you mean 'cross_entropy'? Choices: cross_entropy, quadratic.
    """
    names = list(choices)
    if isinstance(name, str) and name in names:
        return name
    near = difflib.get_close_matches(name.lower(), names, n=1) if isinstance(name, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"unknown {kind} {name!r}{hint} Choices: {', '.join(names)}.")


def parse_choice(kind: str, text: object, table: Mapping[str, Callable[..., Any]]) -> Any:
    """Build the object that `text` names: ``"he"``, ``"uniform(-0.1, 0.1)"`` or ``"cosine(warmup=0.1)"``.

    Arguments are Python literals. Raises ValueError for an unknown name or arguments that do not fit.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(\(.*\))?\s*", text, re.DOTALL) if isinstance(text, str) else None
    name = check_choice(kind, match[1].lower() if match else text, table)
    try:
        call = ast.parse(f"{name}{(match and match[2]) or '()'}", mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise ValueError("expected a name and one pair of parentheses")
        arguments = [_literal(argument) for argument in call.args]
        options = {str(option.arg): _literal(option.value) for option in call.keywords}
        return table[name](*arguments, **options)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"cannot make {kind} {text!r}: {error}") from error


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)!r} is not a plain value such as 0.1 or True") from None
