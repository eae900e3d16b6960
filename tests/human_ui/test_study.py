"""Terms of a study: what makes no sense is a sentence that names the file, the value and the mend."""

import pytest

from human_ui.study import Quiz, Study, StudyError, from_mapping, load

GOOD = """
name = "Cups"
want = 3
gold = 0.05
[[quiz]]
question = "What do you look at?"
choices = ["cups", "cars"]
right = 0
"""


def test_a_file_becomes_terms_whose_version_is_theirs(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(GOOD)
    study = load(path)
    assert study == Study("Cups", want=3, gold=0.05, quiz=(Quiz("What do you look at?", ("cups", "cars"), 0),))
    path.write_text(GOOD.replace("want = 3", "want = 3 # each"))
    assert load(path).version == study.version, "a comment changes nothing"
    path.write_text(GOOD.replace("want = 3", "want = 2"))
    assert load(path).version != study.version


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", r"study.toml is no TOML \(.*\); mend that line"),
        ('name = "x"\nwnat = 3', "nothing is called 'wnat'; it may have clip_seconds, consent"),
        ("want = 3", "name at least the study"),
        ('name = ""', "name is ''; give the study a name"),
        ('name = "x"\nwant = 0', "want is 0; give 1 to 100 people per query"),
        ('name = "x"\nwant = "3"', "want is '3'; give a whole number"),
        ('name = "x"\nties = 1', "ties is 1; give true or false"),
        ('name = "x"\nlease = 5', "lease is 5 s; give 10 to 3600"),
        ('name = "x"\ngold = 0.9', r"gold is 0.9; give a share of the queries, 0 to \.5"),
        (f'name = "x"\nconsent = "{"x" * 10_001}"', "consent has 10001 characters; give at most 10000"),
        (GOOD.replace("right = 0", "right = 2"), "has 2 choices and right = 2; give 2 to 8 choices"),
        (GOOD.replace("right = 0", ""), "give every quiz question, choices, right"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(StudyError, match=sentence):
        load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(StudyError, match=r"study.toml is not there; write one with at least: name = "):
        load(tmp_path / "study.toml")


def test_surveys_that_make_no_sense_are_named():
    with pytest.raises(StudyError, match="survey 'cave' is of 'left'; give each or both"):
        from_mapping({"name": "s", "survey": [{"name": "cave", "question": "?", "of": "left"}]}, "here")
    with pytest.raises(StudyError, match="two questions of the survey have one name"):
        from_mapping({"name": "s", "survey": [{"name": "cave", "question": "?"}] * 2}, "here")
    with pytest.raises(StudyError, match="every question of a survey name, question"):
        from_mapping({"name": "s", "survey": [{"name": "cave"}]}, "here")
