import pytest

from medrobust.report.folders import without_absolute, without_folder, without_folders


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/data/patients/Smith_John_1961", "…/Smith_John_1961"),
        ("/data/patients/Smith_John/", "…/Smith_John"),
        ("patients/Smith_John/left.csv", "…/left.csv"),
        (r"C:\Users\jane\left.csv", "…/left.csv"),
        ("embedded:tissue", "embedded:tissue"),
        ("left.csv", "left.csv"),
        ("/left.csv", "…/left.csv"),
        ("", ""),
        ("/", "/"),
    ],
)
def test_only_the_last_component_is_left(path, shown):
    assert without_folder(path) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/jane/net.pt", "…/net.pt"),
        ("~/John Smith/net.pt", "…/net.pt"),
        ("~jane/net.pt", "…/net.pt"),
        (r"\\server\jane\net.pt", "…/net.pt"),
        ("csv:/home/jane/net.pt", "csv:…/net.pt"),
        ("see /home/jane/net.pt", "see …/net.pt"),
        ("4/255", "4/255"),
        ("4 /255", "4 /255"),
        ("and/or", "and/or"),
        ("timm:resnet18", "timm:resnet18"),
        ("severe / proliferative", "severe / proliferative"),
        ("~ 3", "~ 3"),
    ],
)
def test_absolute_paths_in_a_text(text, shown):
    assert without_absolute(text) == shown


def test_a_configuration():
    config = {
        "data": {"path": "scans/Smith/x.csv", "classes": ["a/b", "c"], "image_folder": "Smith/png"},
        "model": {"source": "timm:resnet18", "weights": "/models/Smith/net.pt", "mean": [0.5]},
        "threat": {"eps": ["1/255", 0.5], "quantum": None},
        "out": "runs/Smith/1",
        "note": ["kept at /home/jane/notes.txt", True],
        "/home/jane/key": 1,
    }
    assert without_folders(config) == {
        "data": {"path": "…/x.csv", "classes": ["a/b", "c"], "image_folder": "…/png"},
        "model": {"source": "timm:resnet18", "weights": "…/net.pt", "mean": [0.5]},
        "threat": {"eps": ["1/255", 0.5], "quantum": None},
        "out": "…/1",
        "note": ["kept at …/notes.txt", True],
        "…/key": 1,
    }
    assert without_folders({"data": "scans/Smith/x.csv"}) == {"data": "…/x.csv"}
