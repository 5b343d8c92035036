from sam_refine_export.repository import template


def test_template_files_leave_out_what_is_no_part_of_it(tmp_path, monkeypatch):
    for name in (
        "sam_refine/1/.gitkeep",
        "sam_refine/1/__pycache__/model.pyc",
        "sam_refine/1/model.onnx",
        "sam_refine/config.pbtxt",
        "my_model/config.pbtxt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(template, "template", lambda: tmp_path)
    assert list(template.template_files()) == ["sam_refine/config.pbtxt"]
