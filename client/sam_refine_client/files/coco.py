"""A label map as a COCO dataset: one mask per class, or one polygon annotation per area.

Needs the extra `coco`, whose packages are imported only when they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import AnyLabels

Polygons: TypeAlias = npt.NDArray[np.object_]
"""(n,) shapely polygons."""
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Annotation: TypeAlias = dict[str, Any]


def dataset(
    annotations: list[Annotation],
    size_hw: tuple[int, int],
    image_name: str,
    categories: Mapping[int, str],
) -> dict[str, Any]:
    """The content of a COCO file of one image. `categories` are the names of classes by id.

    Category ids are class ids, 0 included; image and annotations are counted from 1.
    """
    height, width = size_hw
    return {
        "images": [{"id": 1, "file_name": image_name, "height": height, "width": width}],
        "categories": [{"id": class_id, "name": name} for class_id, name in categories.items()],
        "annotations": [
            {"id": index, "image_id": 1, **annotation, "iscrowd": 0}
            for index, annotation in enumerate(annotations, 1)
        ],
    }


def merged(datasets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One dataset of several, each as `dataset` makes it; ids are counted on, in their order.

    Raises `InvalidRequestError` where two images have one name, or a category two.
    """
    images: list[dict[str, Any]] = []
    annotations: list[Annotation] = []
    names: dict[int, str] = {}
    seen: set[str] = set()
    for each in datasets:
        for category in each["categories"]:
            name = names.setdefault(category["id"], category["name"])
            if name != category["name"]:
                raise InvalidRequestError(
                    f"a COCO file must have one name for category {category['id']}, got {name!r} "
                    f"and {category['name']!r}; refine again with the same class names"
                )
        first = len(images)
        for image in each["images"]:
            if image["file_name"] in seen:
                raise InvalidRequestError(
                    f"a COCO file must have each image once, got two called {image['file_name']}"
                )
            seen.add(image["file_name"])
            images.append({**image, "id": first + image["id"]})
        for annotation in each["annotations"]:
            ids = {"id": len(annotations) + 1, "image_id": first + annotation["image_id"]}
            annotations.append({**annotation, **ids})
    categories = [{"id": class_id, "name": names[class_id]} for class_id in sorted(names)]
    return {"images": images, "categories": categories, "annotations": annotations}


def rle_annotations(labels: AnyLabels, ignore_label: int | None = None) -> list[Annotation]:
    """One annotation per class, by class id: its mask as a compressed run-length encoding.

    Raises `ModuleNotFoundError` without pycocotools.
    """
    mask = _needed("pycocotools.mask")
    columns = np.ascontiguousarray(labels.T)  # COCO's runs go down the columns
    annotations = []
    for class_id in np.unique(labels).tolist():
        if class_id == ignore_label:
            continue
        encoded = mask.encode((columns == class_id).view(np.uint8).T)
        annotations.append(
            {
                "category_id": class_id,
                "segmentation": {
                    "size": list(labels.shape),
                    "counts": encoded["counts"].decode("ascii"),
                },
                "area": int(mask.area(encoded)),
                "bbox": mask.toBbox(encoded).tolist(),
            }
        )
    return annotations


def polygon_annotations(labels: AnyLabels, ignore_label: int | None = None) -> list[Annotation]:
    """One annotation per 4-connected area of one label, by class id, then raster order.

    The polygons run along the borders of pixels, so that rasterising them gives exactly the area.
    COCO's polygons have no holes: an area with holes is cut above and below each hole into polygons
    that do not overlap. Raises `ModuleNotFoundError` without shapely.
    """
    shapely = _needed("shapely")
    borders = _borders(labels)
    areas = _faces(borders)
    cells = _vertices(areas, lowest=False)
    class_ids = labels[cells[:, 0], cells[:, 1]]
    order = np.lexsort((cells[:, 1], cells[:, 0], class_ids))
    areas, class_ids = areas[order], class_ids[order]

    pieces, owners = _without_holes(areas, borders)
    rings = np.split(*_flat_rings(pieces))
    segmentations: list[list[list[int]]] = [[] for _ in areas]
    for owner, ring in zip(owners.tolist(), rings, strict=True):
        segmentations[owner].append(ring.tolist())

    sizes = shapely.area(areas).astype(np.int64).tolist()
    boxes_xyxy = shapely.bounds(areas).astype(np.int64)
    boxes_xywh = np.hstack([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]]).tolist()
    columns = zip(class_ids.tolist(), segmentations, sizes, boxes_xywh, strict=True)
    return [
        {"category_id": class_id, "segmentation": polygons, "area": area, "bbox": box}
        for class_id, polygons, area, box in columns
        if class_id != ignore_label
    ]


# --- Areas as polygons -----------------------------------------------------------------------


class _Borders(NamedTuple):
    """The sides of pixels that polygons run along."""

    across: Bools
    """(H + 1, W): [y, x] is the side from vertex (x, y) to (x + 1, y)."""
    down: Bools
    """(H, W + 1): [y, x] is the side from vertex (x, y) to (x, y + 1)."""


def _borders(labels: AnyLabels) -> _Borders:
    """The sides between pixels of different labels, and those around the map."""
    height, width = labels.shape
    across, down = np.ones((height + 1, width), np.bool_), np.ones((height, width + 1), np.bool_)
    across[1:-1] = labels[1:] != labels[:-1]
    down[:, 1:-1] = labels[:, 1:] != labels[:, :-1]
    return _Borders(across, down)


def _ends(sides: Bools) -> Bools:
    """(rows, n) sides along rows to (rows, n + 1) vertices at which one of them begins or ends."""
    padded = np.pad(sides, ((0, 0), (1, 1)))
    return padded[:, 1:] | padded[:, :-1]


def _faces(borders: _Borders) -> Polygons:
    """The areas that the borders enclose. Where four sides meet, they do not join diagonally."""
    shapely = _needed("shapely")
    y, x_first, x_last = _runs(borders.across, _ends(borders.down.T).T)
    x, y_first, y_last = _runs(borders.down.T, _ends(borders.across).T)
    starts = np.concatenate([np.stack([x_first, y], 1), np.stack([x, y_first], 1)])
    stops = np.concatenate([np.stack([x_last, y], 1), np.stack([x, y_last], 1)])
    lines = shapely.linestrings(np.stack([starts, stops], 1).astype(np.float64))
    faces: Polygons = shapely.get_parts(shapely.polygonize(lines))
    return faces


def _runs(sides: Bools, crossings: Bools) -> tuple[Ints, Ints, Ints]:
    """Straight lines of sides (rows, n) along rows that end at every crossing (rows, n + 1).

    Gives the row, the first and the last vertex of each.
    """
    padded = np.pad(sides, ((0, 0), (1, 1)))
    rows, first = np.nonzero(padded[:, 1:] & (crossings | ~padded[:, :-1]))
    _, last = np.nonzero(padded[:, :-1] & (crossings | ~padded[:, 1:]))
    return rows, first, last


def _without_holes(areas: Polygons, borders: _Borders) -> tuple[Polygons, Ints]:
    """Polygons (n,), in raster order within their area, and the index of each one's area.

    Two lines cut a hole out of its area: from its highest vertex straight up to the next border,
    and from its lowest vertex straight down. Up from hole to hole, and down too, they lead to the
    outer ring: so no cut has the same piece on both of its sides, and no piece has a hole. If a
    hole touches another border there, the line runs along that border, and cuts nothing.
    """
    shapely = _needed("shapely")
    rings, owners = shapely.get_rings(areas, return_index=True)
    holes = rings[np.diff(owners, prepend=-1) == 0]
    if not len(holes):
        return areas, np.arange(len(areas))
    is_reached, down = _ends(borders.across), borders.down.copy()
    for y, x in _vertices(holes, lowest=False).tolist():
        down[y - 1 - is_reached[y - 1 :: -1, x].argmax() : y, x] = True
    for y, x in _vertices(holes, lowest=True).tolist():
        down[y : y + 1 + is_reached[y + 1 :, x].argmax(), x] = True

    pieces = _faces(_Borders(borders.across, down))
    cells = _vertices(pieces, lowest=False)
    inside = shapely.points(cells[:, ::-1] + 0.5)
    owners, members = shapely.STRtree(inside).query(areas, predicate="contains")
    order = np.lexsort((cells[members, 1], cells[members, 0], owners))
    return pieces[members[order]], owners[order]


def _vertices(geometries: Any, *, lowest: bool) -> Ints:
    """(n, 2) y, x of each geometry's highest, or lowest, vertex; of several the leftmost one.

    The highest vertex of a polygon is the upper left corner of the pixel [y, x], which is inside.
    """
    shapely = _needed("shapely")
    points_xy, owners = shapely.get_coordinates(geometries, return_index=True)
    x, y = points_xy.astype(np.int64).T
    order = np.lexsort((x, -y if lowest else y, owners))
    first = order[np.searchsorted(owners, np.arange(len(geometries)))]
    return np.stack([y[first], x[first]], 1)


def _flat_rings(polygons: Polygons) -> tuple[Ints, Ints]:
    """x, y, x, y, ... of all outer rings one after another, and where each but the first begins.

    Rings have only their corners, and do not repeat the first one at the end.
    """
    shapely = _needed("shapely")
    rings = shapely.get_exterior_ring(shapely.normalize(polygons))
    points_xy, owners = shapely.get_coordinates(rings, return_index=True)
    is_repeated = np.diff(owners, append=-1) != 0
    points_xy, owners = points_xy[~is_repeated].astype(np.int64), owners[~is_repeated]
    begins = np.flatnonzero(np.diff(owners, prepend=-1))
    before = np.arange(len(owners)) - 1
    before[begins] = np.append(begins[1:], len(owners)) - 1
    is_across = points_xy[:, 1] == points_xy[before, 1]
    is_corner = np.empty_like(is_across)
    is_corner[before] = is_across != is_across[before]
    points_xy, owners = points_xy[is_corner], owners[is_corner]
    return points_xy.ravel(), 2 * np.flatnonzero(np.diff(owners)) + 2


def _needed(module: str) -> Any:
    """A module of the extra; raises `ModuleNotFoundError` that names the extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ModuleNotFoundError(
            f'COCO files need {package}: pip install "sam-refine[coco]"', name=error.name
        ) from error
