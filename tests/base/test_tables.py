from h2t.base import tables

HEADER = ["step", "all"]


def test_a_terminal_aligns_the_first_column_left_and_numbers_right():
    assert tables.plain(HEADER, [["DR", "9.00"], ["DR + H2T", "10.00"]]) == (
        "step        all\nDR         9.00\nDR + H2T  10.00"
    )


def test_markdown_keeps_a_bar_in_a_cell():
    found = tables.markdown(HEADER, [["a|b", "1"]]).splitlines()
    assert found == ["| step | all |", "| --- | --- |", "| a\\|b | 1 |"]


def test_a_number_that_does_not_exist_is_empty():
    assert [tables.number(x) for x in (None, float("nan"), 1.005, -0.5)] == [
        "",
        "",
        "1.00",
        "-0.50",
    ]
    assert tables.number(0.5, sign=True) == "+0.50"
    assert [tables.number(-0.004, sign=s) for s in (False, True)] == ["0.00", "+0.00"]
