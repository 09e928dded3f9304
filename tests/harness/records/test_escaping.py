import csv
import io

import pytest

from harness.records import escaping


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " ="])
def test_no_cell_begins_as_a_formula(start: str) -> None:
    made = escaping.in_csv(f"{start}1+1")
    stream = io.StringIO()
    csv.writer(stream).writerow([made])
    assert stream.getvalue()[0] == "'"


@pytest.mark.parametrize("value", [-1.5, "-1.5", "+3e-4", 7, None, "plain", "a=b"])
def test_numbers_and_harmless_texts_stay(value: object) -> None:
    assert escaping.in_csv(value) == value


def test_latex_reads_text_as_text() -> None:
    evil = r"\input{/etc/passwd} & 50% $x^2$ #1 a_b~{c} <d>|" + '"`'
    made = escaping.in_latex(evil)
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"):
        made = made.replace(command, "")
    for command in (r"\textless{}", r"\textgreater{}", r"\textbar{}", r"\textasciigrave{}"):
        made = made.replace(command, "")
    made = made.replace("{''}", "")
    for letter in "&%$#_{}":
        made = made.replace(f"\\{letter}", "")
    assert not set(made) & set(r"\&%$#_{}~^<>|`")


def test_signs_that_fonts_lack_become_numbers_and_names_stay() -> None:
    assert escaping.in_latex("😀 Ä ±") == r"{[}U+1F600] Ä $\pm$"
    assert escaping.in_latex("e\u0301") == "é"  # composed, as no font has the accent alone
    numbers = r"{[}U+65E5]{[}U+672C]"
    assert escaping.in_latex("日本 ł") == rf"{{\ifdefined\Umathchar 日本\else {numbers}\fi}} ł"
    assert escaping.in_latex("ą") == r"{\ifdefined\Umathchar ą\else {[}U+0105]\fi}"


def test_what_begins_a_row_of_latex_belongs_to_no_command() -> None:
    assert escaping.in_latex("[2em]") == "{[}2em]"
    assert escaping.in_latex("*") == "{*}"


def test_markdown_reads_text_as_text() -> None:
    made = escaping.in_markdown("a|b *c* <img src=x> [d](e)\n# f")
    assert made == r"a\|b \*c\* &lt;img src=x> \[d\](e) # f"


def test_letters_that_turn_others_around_are_left_out() -> None:
    assert escaping.visible("a\u202eb\x00c\u200b\nd") == "abc d"
