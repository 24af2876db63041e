"""The generator ``arithmetic``: expressions over whole numbers, worked out step by step.

An expression is drawn so that no step has a negative result or a division with a remainder. The answer has a line for
each step and ends with ``#### <number>``, as those of GSM8K (Cobbe and others, 2021) do; ``metadata.answer`` is the
number alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from trainq.draws import Draws
from trainq.generating.base import GenerateRequest, chat, distinct, provenance, refuse_options

DATASET = "arithmetic"

_QUESTION = "Calculate {}. Write each step on a line of its own, and end with #### and the result."
_ASKED = re.compile(r"Calculate (.+?)\. Write each step ")
# No number that is asked for is longer; Python refuses to read one of over 4,300 digits.
_STEP = re.compile(r"(\d{1,18}) ([-+*/]) (\d{1,18}) = (\d{1,18})", re.ASCII)
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2}


class Operation(NamedTuple):
    """Two operands, what is done with them, and what comes out."""

    left: Expression
    sign: str
    right: Expression
    value: int


Expression: TypeAlias = int | Operation


class Arithmetic:
    """Ten levels, from sums of one-digit numbers to nested parentheses."""

    name = "arithmetic"
    version = "1"

    @property
    def levels(self) -> int:
        return len(LEVELS)

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        """See :class:`trainq.generating.base.Generator`."""
        refuse_options(self, request)

        def made(index: int) -> tuple[str, Expression]:
            expression = LEVELS[request.level - 1](Draws("arithmetic", request.level, request.seed, index))
            # 8 - (5 - 2) and 8 - 5 - 2 are one here, as where suites are looked for in what is trained.
            return re.sub("[()]", "", written(expression)), expression

        for index, expression in distinct(self, request, made):
            result = value(expression)
            yield {"messages": chat(_QUESTION.format(written(expression)),
                                    "\n".join([*steps(expression), f"#### {result}"])),
                   "metadata": {**provenance(self, request, index, DATASET), "answer": str(result)}}


def value(expression: Expression) -> int:
    """What it comes to."""
    return expression if isinstance(expression, int) else expression.value


def written(expression: Expression) -> str:
    """As people write it, with the parentheses that it needs and no others."""
    if isinstance(expression, int):
        return str(expression)
    left, right = written(expression.left), written(expression.right)
    binding = _BINDING[expression.sign]
    if _binding(expression.left) < binding:
        left = f"({left})"
    # From left to right: a - (b + c) and a / (b * c) need theirs, a + (b + c) and a * (b * c) are written so, too.
    if _binding(expression.right) <= binding:
        right = f"({right})"
    return f"{left} {expression.sign} {right}"


def _binding(expression: Expression) -> int:
    return 3 if isinstance(expression, int) else _BINDING[expression.sign]


def steps(expression: Expression) -> Iterator[str]:
    """One line for each operation, in an order in which they can be done."""
    if isinstance(expression, int):
        return
    yield from steps(expression.left)
    yield from steps(expression.right)
    yield f"{value(expression.left)} {expression.sign} {value(expression.right)} = {expression.value}"


def is_worked_out(question: str, answer: str) -> bool:
    """Whether an answer to one of these questions is worked out, step by step, and ends in what it has come to.

    A result alone may be luck: of sums of digits one in ten is. Each line must be true and use up two of the numbers
    that there are, those of the question or of a line before it, by one of the question's signs. The steps may come in
    another order than the reference has; whether that order is right shows in the result, which is not looked at here.
    """
    asked = _ASKED.match(question)
    *lines, last = answer.strip().split("\n")
    if asked is None:
        return False
    numbers, signs = Counter(map(int, re.findall(r"\d+", asked[1]))), Counter(re.findall(r" ([-+*/]) ", asked[1]))
    for line in lines:
        step = _STEP.fullmatch(line.strip())
        if step is None or not _is_true(left := int(step[1]), step[2], right := int(step[3]), int(step[4])):
            return False
        used = Counter((left, right))
        if used - numbers or not signs[step[2]]:
            return False
        numbers, signs = numbers - used + Counter((int(step[4]),)), signs - Counter(step[2])
    return not signs and [f"#### {number}" for number in numbers.elements()] == [last.strip()]


def _is_true(left: int, sign: str, right: int, result: int) -> bool:
    match sign:
        case "+":
            return left + right == result
        case "-":
            return left - right == result
        case "*":
            return left * right == result
        case _:
            return right != 0 and result * right == left


def _plus(left: Expression, right: Expression) -> Operation:
    return Operation(left, "+", right, value(left) + value(right))


def _minus(left: Expression, right: Expression) -> Operation:
    """The smaller one from the greater one."""
    if value(left) < value(right):
        left, right = right, left
    return Operation(left, "-", right, value(left) - value(right))


def _times(left: Expression, right: Expression) -> Operation:
    return Operation(left, "*", right, value(left) * value(right))


def _plus_or_minus(draws: Draws, left: Expression, right: Expression) -> Operation:
    return draws.pick((_plus, _minus))(left, right)


def _divided(draws: Draws, dividend: Expression, low: int, high: int) -> Operation:
    """The dividend by a number from ``low`` to ``high``, after as much is added as makes it divisible."""
    divisor = draws.between(low, high)
    missing = -value(dividend) % divisor
    if missing or not value(dividend):
        dividend = _plus(dividend, missing or divisor)
    return Operation(dividend, "/", divisor, value(dividend) // divisor)


def _sum_of_digits(draws: Draws) -> Expression:
    total: Expression = draws.below(10)
    for _ in range(draws.between(1, 3)):
        total = _plus(total, draws.below(10))
    return total


def _two_numbers(draws: Draws) -> Expression:
    return _plus_or_minus(draws, draws.between(10, 99), draws.between(10, 99))


def _three_numbers(draws: Draws) -> Expression:
    return _plus_or_minus(draws, _two_numbers(draws), draws.between(1, 99))


def _product(draws: Draws) -> Expression:
    return _times(draws.between(2, 12), draws.between(3, 99))


def _product_and_number(draws: Draws) -> Expression:
    return _plus_or_minus(draws, _product(draws), draws.between(2, 99))


def _quotient(draws: Draws) -> Operation:
    divisor, result = draws.between(2, 12), draws.between(2, 99)
    return Operation(divisor * result, "/", divisor, result)


def _quotient_and_number(draws: Draws) -> Expression:
    return _plus_or_minus(draws, _quotient(draws), draws.between(2, 99))


def _two_products(draws: Draws) -> Expression:
    return _plus_or_minus(draws, draws.pick((_product, _quotient))(draws), _product(draws))


def _factor(draws: Draws) -> Expression:
    return _plus_or_minus(draws, draws.between(3, 60), draws.between(2, 40))


def _parentheses(draws: Draws) -> Expression:
    return _plus_or_minus(draws, _times(_factor(draws), draws.between(2, 12)), draws.between(2, 99))


def _two_parentheses(draws: Draws) -> Expression:
    return _plus_or_minus(draws, _times(_factor(draws), _factor(draws)), draws.between(2, 999))


def _divided_parentheses(draws: Draws) -> Expression:
    quotient = _divided(draws, _plus_or_minus(draws, _product(draws), draws.between(2, 99)), 3, 12)
    return _plus_or_minus(draws, _times(quotient, draws.between(2, 12)), draws.between(2, 99))


def _nested(draws: Draws) -> Expression:
    inner = _times(_factor(draws), draws.between(2, 12))
    quotient = _divided(draws, _plus_or_minus(draws, inner, _product(draws)), 3, 12)
    return _plus_or_minus(draws, _times(quotient, _factor(draws)), draws.pick((_product, _quotient))(draws))


# What is drawn at each level, from the first to the last.
LEVELS: tuple[Callable[[Draws], Expression], ...] = (
    _sum_of_digits, _two_numbers, _three_numbers, _product_and_number, _quotient_and_number, _two_products,
    _parentheses, _two_parentheses, _divided_parentheses, _nested)
