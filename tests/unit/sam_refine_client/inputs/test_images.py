"""Which images a folder has, and what goes with each."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from sam_refine_client import InvalidRequestError
from sam_refine_client.inputs.images import ImageFile, find_images, said_of_left_out

CITYSCAPES = (
    "train/aachen/aachen_000000_000019_leftImg8bit.png",
    "train/bochum/bochum_000000_000313_leftImg8bit.png",
    "train/bochum/bochum_000000_000313_gtFine_color.png",
)


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_hidden_files_and_folders_are_no_images(tmp_path):
    names = ("a.JPG", "._a.JPG", ".DS_Store", "Thumbs.db", ".thumbnails/a.jpg", "sub/._b.jpg")
    found = find_images(tree(tmp_path, *names), recursive=True)
    assert [image.path for image in found] == [tmp_path / "a.JPG"]


@pytest.mark.parametrize("folder", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"])
def test_folders_that_systems_put_there_have_no_images(tmp_path, folder):
    found = find_images(tree(tmp_path, "a.jpg", f"{folder}/a.jpg"), recursive=True)
    assert [image.path for image in found] == [tmp_path / "a.jpg"]


def test_link_to_an_image_that_is_not_there_is_not_left_out_in_silence(tmp_path):
    (tree(tmp_path, "a.jpg") / "b.jpg").symlink_to("annex/b.jpg")
    assert [image.name for image in find_images(tmp_path)] == ["a", "b"]


def test_links_to_folders_are_said_where_folders_are_searched(tmp_path):
    tree(tmp_path, "a.jpg", "x/b.jpg", "elsewhere/y/c.jpg")
    (tmp_path / "x/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".hidden").symlink_to(tmp_path / "elsewhere")
    assert said_of_left_out(tmp_path) is None
    said = said_of_left_out(tmp_path, recursive=True)
    assert said.startswith("1 of links to folders left out (x/more), whose files are not looked")
    (tmp_path / "only").mkdir()
    (tmp_path / "only/y").symlink_to(tmp_path / "x")
    with pytest.raises(InvalidRequestError, match=r"has no image: .*; 1 of links to folders left"):
        find_images(tmp_path / "only", recursive=True)


def test_images_of_folders_are_found_where_that_is_asked_for(tmp_path):
    tree(tmp_path, "a.jpg", "x/a.jpg", "x/y/b.jpg")
    assert [image.name for image in find_images(tmp_path)] == ["a"]
    assert [image.name for image in find_images(tmp_path, recursive=True)] == ["a", "x/a", "x/y/b"]


def test_folder_whose_images_lie_deeper_says_how_to_find_them(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"has no image: .*; its folders have some: --r"):
        find_images(tree(tmp_path, "x/a.jpg"))


def test_pictures_of_kinds_that_are_not_read_are_said(tmp_path):
    tree(tmp_path, "a.HEIC", "b.avif", "c.jpg", "d.txt", "x/e.nef", "._f.heic")
    said = said_of_left_out(tmp_path)
    assert said.startswith("2 of .avif, .heic left out (a.HEIC, b.avif): convert them to JPEG or")
    assert said_of_left_out(tmp_path, recursive=True).startswith("3 of .avif, .heic, .nef left out")
    assert said_of_left_out(tmp_path, cut_suffix="_left") is None
    assert said_of_left_out(tmp_path / "c.jpg") is None
    with pytest.raises(InvalidRequestError, match=r"has no image: .*; 1 of \.nef left out"):
        find_images(tmp_path / "x")


def test_suffix_that_is_cut_finds_its_own_images_only(tmp_path):
    found = find_images(tree(tmp_path, *CITYSCAPES), recursive=True, cut_suffix="_leftImg8bit")
    assert [image.name for image in found] == [
        "train/aachen/aachen_000000_000019",
        "train/bochum/bochum_000000_000313",
    ]
    with pytest.raises(InvalidRequestError, match=r"has no image: \*_depth\.jpg"):
        find_images(tmp_path, recursive=True, cut_suffix="_depth")


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("x/a.jpg", "x/a.JPEG")])
def test_two_images_of_one_name_are_refused(tmp_path, names):
    with pytest.raises(InvalidRequestError, match="must have one image of a name, got"):
        find_images(tree(tmp_path, *names), recursive=True)


def test_image_that_is_nothing_but_what_is_cut_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"a name before the ending, got _left\.png"):
        find_images(tree(tmp_path, "_left.png"), cut_suffix="_left")


IMAGE = ImageFile(Path("img/aachen/a_leftImg8bit.png"), True, "aachen", "_leftImg8bit")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("scores/aachen/a.npy", "scores"),  # as the images lie
        ("scores/a.npy", "scores"),  # all in one folder
        ("scores/aachen/a.NPY", "scores"),
        ("gt/aachen/a_gtFine_labelIds.npy", "gt/{folder}/{stem}_gtFine_labelIds.npy"),
        ("gt/aachen/a.npy", "gt/{name}.npy"),
    ],
)
def test_what_goes_with_an_image_is_found(tmp_path, name, place):
    tree(tmp_path, name)
    assert IMAGE.companion(tmp_path / place, (".npy", ".npz")) == tmp_path / name


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("scores", r"scores must have aachen/a\.npy or aachen/a\.npz, got none"),
        ("{stem}.npy", r"a_leftImg8bit\.png must have .*/a\.npy beside it, got none"),
        ("{stam}.npy", r"may have \{stem\}, \{folder\} and \{name\} in it .*, got 'stam'"),
        ("{.npy", r"may have \{stem\}, \{folder\} and \{name\} in it"),
        ("{stem.__class__.x}.npy", r"may have \{stem\}, \{folder\} and \{name\} in it"),
    ],
)
def test_what_is_missing_is_named(tmp_path, place, sentence):
    (tmp_path / "scores").mkdir()
    with pytest.raises(InvalidRequestError, match=sentence):
        IMAGE.companion(tmp_path / place, (".npy", ".npz"))


def test_file_of_a_stem_alone_goes_with_no_image_of_several_folders(tmp_path):
    tree(tmp_path, "img/x/a.jpg", "img/y/a.jpg", "img/y/b.jpg", "scores/a.npy", "scores/b.npy")
    x, y, b = find_images(tmp_path / "img", recursive=True)
    for image in (x, y):
        with pytest.raises(InvalidRequestError, match=rf"must have {image.name}\.npy, got none"):
            image.companion(tmp_path / "scores", (".npy",))
    assert b.companion(tmp_path / "scores", (".npy",)) == tmp_path / "scores/b.npy"
    tree(tmp_path, "scores/x/a.npy")
    assert x.companion(tmp_path / "scores", (".npy",)) == tmp_path / "scores/x/a.npy"


@pytest.mark.parametrize(
    ("names", "pattern", "needed"),
    [
        (("x/a.jpg", "y/a.jpg"), "{stem}.npy", "{folder} or {name}"),
        (("x/a.jpg", "x/b.jpg"), "{folder}.npy", "{stem} or {name}"),
    ],
)
def test_pattern_that_names_one_file_for_several_images_is_refused(
    tmp_path, names, pattern, needed
):
    tree(tmp_path / "img", *names)
    tree(tmp_path, "a.npy", "x.npy")
    first, _ = find_images(tmp_path / "img", recursive=True)
    with pytest.raises(InvalidRequestError, match=f"same file for several .* must have {needed}"):
        first.companion(tmp_path / pattern, (".npy",))


def test_one_file_of_two_names_is_found_as_one(tmp_path):
    """As where the file system does not tell cases apart."""
    tree(tmp_path, "a.npy")
    (tmp_path / "a.NPY").hardlink_to(tmp_path / "a.npy")
    assert ImageFile(Path("a.jpg"), True).companion(tmp_path, (".npy",)).is_file()


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("place", ["scores", "scores/{stem}.npy"])
def test_accents_are_the_same_in_all_forms_of_unicode(tmp_path, forms, place):
    of_image, of_scores = (unicodedata.normalize(form, "café") for form in forms)
    tree(tmp_path, f"images/{of_image}.jpg", f"scores/{of_scores}.npy")
    (image,) = find_images(tmp_path / "images")
    found = image.companion(tmp_path / place, (".npy", ".npz"))
    assert found.name == f"{of_scores}.npy"


@pytest.mark.parametrize(
    ("image", "other", "pattern"),
    [
        ("a.jpg", "a_mask.png", "'{}/{{stem}}_mask.png'"),
        ("a.jpg", "a.jpg.png", "'{}/{{stem}}.jpg.png'"),
        ("a_image.jpg", "a_mask.png", "'{}/{{stem}}_mask.png' and --cut-suffix _image"),
        (
            "x/a_leftImg8bit.png",
            "x/a_gtFine_labelIds.png",
            "'{}/{{name}}_gtFine_labelIds.png' and --cut-suffix _leftImg8bit",
        ),
    ],
)
def test_file_of_a_similar_name_is_said_with_what_finds_it(tmp_path, image, other, pattern):
    tree(tmp_path, f"images/{image}", f"masks/{other}")
    (found,) = find_images(tmp_path / "images", recursive=True)
    masks = tmp_path / "masks"
    with pytest.raises(InvalidRequestError) as caught:
        found.companion(masks, (".png",))
    name = Path(other).name
    said = f"it has {name}, which a pattern finds, such as {pattern.format(masks)}"
    assert str(caught.value).endswith(f"got none; {said}")


def test_files_of_other_images_are_not_said(tmp_path):
    tree(tmp_path, "images/a.jpg", "masks/ab_mask.png", "masks/b.png", "masks/a_mask.txt")
    (image,) = find_images(tmp_path / "images")
    with pytest.raises(InvalidRequestError, match=r"got none$"):
        image.companion(tmp_path / "masks", (".png",))


def test_file_of_a_name_in_another_case_is_named(tmp_path):
    tree(tmp_path, "images/IMG_1.JPG", "scores/img_1.npy")
    (image,) = find_images(tmp_path / "images")
    with pytest.raises(
        InvalidRequestError, match=r"it has img_1\.npy, whose name is of another case"
    ):
        image.companion(tmp_path / "scores", (".npy",))


def test_link_to_what_is_not_there_is_named(tmp_path):
    tree(tmp_path, "images/a.jpg", "scores/b.npy")
    (tmp_path / "scores/a.npy").symlink_to("annex/a.npy")
    (image,) = find_images(tmp_path / "images")
    with pytest.raises(InvalidRequestError, match=r"a\.npy is a link to a file that is not there"):
        image.companion(tmp_path / "scores", (".npy",))
