"""Amounts of money in words."""

from __future__ import annotations


def show_dollars(amount: float) -> str:
    """US dollars with as many digits as tell something: `$12.35`, `$0.0042`, `$0.0000031`."""
    if amount >= 1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.7f}".rstrip("0") if amount >= 1e-7 else "under $0.0000001"
