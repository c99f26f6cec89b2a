"""Words that no caption should end with."""

BAD_ENDINGS = frozenset(
    "a an the in for at of with before after on upon near to is are am and or by from".split()  # noqa: SIM905
)
"""The 17 of Luo's code (ruotianluo/ImageCaptioning.pytorch, whose figure is `bad_count_rate`), and `and`, `or`, `by`,
`from`."""
