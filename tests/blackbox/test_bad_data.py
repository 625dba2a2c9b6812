"""Data sets that are broken: named by file, and byte or row; nothing is registered. And names in any script."""

import concurrent.futures
import gzip
import shutil
import struct
import zlib

import numpy as np
import pytest

from conftest import make_images, wait_for, write_idx


@pytest.fixture(autouse=True)
def goes_on(unharmed):
    yield


def refuse(server, path, *args, name="broken"):
    result = server.cli("dataset", "add", name, path, *args, check=False)
    assert result.code in (1, 4, 5), (result.code, result.out, result.err)
    assert server.cli("dataset", "show", name, check=False).code == 4, "a refused data set may not be registered"
    assert not (server.folder / "data" / "datasets" / name).exists(), "its copy must go"
    return result.err


def png(height, width, fill=200):
    """A grey PNG."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([fill]) * width) * height
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


# --- IDX ---

@pytest.fixture
def idx(squares, tmp_path):
    return shutil.copytree(squares, tmp_path / "idx")


def test_a_cut_gzip_file_is_named(shared, idx):
    file = idx / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-1000])
    error = refuse(shared, idx)
    assert file.name in error and "byte" in error, error


def test_a_gzip_file_with_a_flipped_bit_is_named(shared, idx):
    file = idx / "t10k-images-idx3-ubyte.gz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)
    error = refuse(shared, idx)
    assert file.name in error, error


@pytest.mark.parametrize("content, words", [
    (b"", ["byte 0"]),
    (b"\x01\x02\x03\x04" + bytes(100), ["byte 0", "not an IDX file"]),
    (struct.pack(">HBBIII", 0, 8, 3, 800, 16, 16) + bytes(100), ["204816"]),
    (struct.pack(">HBBIII", 0, 8, 3, 1 << 31, 1 << 31, 1 << 31), []),
    (struct.pack(">HBBIII", 0, 13, 3, 1, 16, 16) + bytes(1024), ["type"]),
    (struct.pack(">HBBIII", 0, 8, 3, 0, 16, 16), []),
], ids=["empty", "magic", "short", "overflow", "type", "no images"])
def test_a_broken_idx_file_is_named(shared, idx, content, words):
    file = idx / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(content))
    error = refuse(shared, idx)
    assert "train-images-idx3-ubyte" in error and all(word in error for word in words), error


def test_counts_that_differ_name_both_files(shared, idx):
    write_idx(idx / "train-labels-idx1-ubyte.gz", np.zeros(799))
    error = refuse(shared, idx)
    assert "800" in error and "799" in error and "train-labels" in error, error


def test_a_missing_file_of_four_is_named(shared, idx):
    (idx / "train-labels-idx1-ubyte.gz").unlink()
    assert "train-labels-idx1-ubyte" in refuse(shared, idx)


def test_a_label_file_that_is_larger_than_memory_is_refused(shared, idx):
    """A few kilobytes that unpack to a gigabyte are not unpacked."""
    (idx / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 800) + bytes(200_000_000), 1))
    error = refuse(shared, idx)
    assert "train-labels" in error, error


# --- a folder of class folders ---

@pytest.fixture
def pictures(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "pictures" / label / f"{i}.png").write_bytes(png(8, 8))
    return tmp_path / "pictures"


@pytest.mark.parametrize("content", [b"", b"no picture", png(8, 8)[:40], png(8, 8)[:-20], b"\x89PNG\r\n\x1a\n" + b"\xff" * 200,
                                     b"\xff\xd8\xff\xe0" + b"\0" * 200], ids=["empty", "text", "cut", "cut late", "garbage", "jpeg"])
def test_a_broken_picture_is_named(shared, pictures, content):
    (pictures / "dog" / "5.png").write_bytes(content)
    error = refuse(shared, pictures)
    assert "dog/5.png" in error, error


def test_a_picture_that_would_fill_the_memory_is_refused(shared, pictures):
    header = png(8, 8)
    bomb = header[:16] + struct.pack(">II", 100_000, 100_000) + header[24:29]
    (pictures / "cat" / "3.png").write_bytes(bomb + struct.pack(">I", zlib.crc32(bomb[12:29])) + header[33:])
    assert "cat/3.png" in refuse(shared, pictures)


def test_a_folder_without_classes_or_pictures_is_refused(shared, tmp_path):
    (tmp_path / "none").mkdir()
    assert "none" in refuse(shared, tmp_path / "none")
    (tmp_path / "none" / "empty-class").mkdir()
    assert "none" in refuse(shared, tmp_path / "none")


def test_a_file_where_a_folder_of_pictures_belongs_is_refused(shared, tmp_path):
    (tmp_path / "pictures.tar.gz").write_bytes(b"packed")
    words = refuse(shared, tmp_path / "pictures.tar.gz", "--format", "images")
    assert "pictures.tar.gz' is a file" in words and "folder for each class" in words


# --- CSV ---

@pytest.mark.parametrize("row, words", [
    ("1.0,2.0", ["3"]), ("1.0,2.0,a,4", ["3"]), ("1.0,many,a", ["'many'", "b"]), ("1.0,,a", ["b"]), ("1.0,inf,a", ["b"]),
    ('"1.0,2.0,a', []), ("1.0,2.0,", ["label"])],
    ids=["short", "long", "text", "empty", "infinite", "quote", "no label"])
def test_a_broken_row_is_named_by_its_number(shared, tmp_path, row, words):
    rows = ["a,b,label"] + ["0.5,1.5,x", "0.1,0.2,y"] * 10
    rows[7] = row
    file = tmp_path / "table.csv"
    file.write_text("\n".join(rows) + "\n")
    error = refuse(shared, file, "--label-column", "label")
    assert "table.csv" in error and ("row 8" in error or "line 8" in error or ":8" in error), error
    assert all(word in error for word in words), error


def test_an_unknown_label_column_names_the_nearest(shared, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("width,species\n1,a\n2,b\n")
    error = refuse(shared, file, "--label-column", "specis")
    assert "'specis'" in error and "species" in error, error


def test_an_empty_table_is_refused(shared, tmp_path):
    file = tmp_path / "table.csv"
    for text in ("", "a,b,label\n"):
        file.write_text(text)
        assert "table.csv" in refuse(shared, file, "--label-column", "label")


@pytest.mark.parametrize("rows, columns", [(16, 16), ((1 << 32) - 1, (1 << 32) - 1)], ids=["small", "too large to count"])
def test_files_of_no_images_at_all_are_refused(unharmed, idx, rows, columns):
    (idx / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 0, rows, columns)))
    (idx / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 0)))
    refuse(unharmed, idx)


# --- NPY ---

@pytest.fixture
def arrays(tmp_path):
    folder = tmp_path / "arrays"
    folder.mkdir()
    images, labels = make_images(40, 1)
    np.save(folder / "x.npy", images[:, None].astype(np.float32))
    np.save(folder / "y.npy", labels)
    return folder


def test_the_arrays_are_fine_before_they_are_broken(shared, arrays):
    shared.cli("dataset", "add", "arrays", arrays)
    assert shared.cli("dataset", "show", "arrays", "--json").json["shape"] == [1, 16, 16]
    shared.cli("dataset", "delete", "arrays")


def test_arrays_of_no_samples_of_an_absurd_shape_are_refused(unharmed, arrays):
    for shape in ((0, 16, 16), (0, 1 << 40, 1 << 40)):
        with open(arrays / "x.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        np.save(arrays / "y.npy", np.zeros(0, np.int64))
        refuse(unharmed, arrays)


def test_broken_arrays_are_named(shared, arrays):
    good = (arrays / "x.npy").read_bytes()
    for content in (b"", b"garbage" * 100, good[:60], good[:-100], good[:6] + b"\x09\x00" + good[8:],
                    good.replace(b"'<f4'", b"'|O8'"), good.replace(b"'<f4'", b"'<c8'")):
        (arrays / "x.npy").write_bytes(content)
        assert "x.npy" in refuse(shared, arrays), content[:100]


def test_arrays_of_objects_are_never_unpickled(shared, arrays):
    np.save(arrays / "y.npy", np.array([{"a": 1}] * 40, dtype=object), allow_pickle=True)
    assert "y.npy" in refuse(shared, arrays)


@pytest.mark.parametrize("labels, words", [(np.zeros(39, np.int64), ["40", "39"]), (np.full(40, -1), ["-1"]), (np.full(40, 2 ** 40), []),
                                           (np.full(40, 0.5), [])], ids=["count", "negative", "huge", "fraction"])
def test_labels_that_do_not_fit_are_refused(shared, arrays, labels, words):
    np.save(arrays / "y.npy", labels)
    error = refuse(shared, arrays)
    assert "y.npy" in error and all(word in error for word in words), error


# --- names, places, use ---

def test_a_path_that_is_missing_or_of_no_known_kind_is_named(shared, tmp_path):
    assert "nowhere" in refuse(shared, tmp_path / "nowhere")
    (tmp_path / "strange.xyz").write_text("?")
    error = refuse(shared, tmp_path / "strange.xyz")
    assert "strange.xyz" in error and "format" in error, error


def test_a_wrong_format_names_the_known_ones(shared, squares):
    error = shared.cli("dataset", "add", "broken", squares, "--format", "idxx", check=False).err
    assert "idxx" in error and "idx" in error and "csv" in error, error


def test_a_name_that_is_taken_is_refused_and_the_first_one_stays(shared, squares, idx):
    shared.cli("dataset", "add", "taken", squares)
    before = shared.cli("dataset", "show", "taken", "--json").json
    for args in ([], ["--copy"], ["--upload"]):
        result = shared.cli("dataset", "add", "taken", idx, *args, check=False)
        assert result.code != 0 and "'taken' exists" in result.err, result.err
    assert shared.cli("dataset", "show", "taken", "--json").json == before
    shared.cli("dataset", "delete", "taken")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 129, "with space"])
def test_a_name_that_is_no_name_is_refused(shared, squares, name):
    for args in ([], ["--copy"], ["--upload"]):
        result = shared.cli("dataset", "add", name, squares, *args, check=False)
        assert result.code != 0 and "name" in result.err.lower(), result.err


def test_a_broken_upload_leaves_nothing(shared, idx):
    (idx / "train-labels-idx1-ubyte.gz").unlink()
    assert "train-labels-idx1-ubyte" in refuse(shared, idx, "--upload")
    assert "train-labels-idx1-ubyte" in refuse(shared, idx, "--copy")


@pytest.mark.parametrize("how", [[], ["--copy"], ["--upload"]], ids=["in place", "copied", "uploaded"])
def test_names_in_any_script_work(shared, tmp_path, how):
    folder = tmp_path / "图片 ü"
    for label in ("猫", "собака"):
        (folder / label).mkdir(parents=True)
        for i in range(10):
            (folder / label / f"{i} 号.png").write_bytes(png(8, 8))
    shared.cli("dataset", "add", "数据", folder, *how)
    shown = shared.cli("dataset", "show", "数据", "--json").json
    assert sorted(shown["class_names"]) == ["собака", "猫"] and shown["classes"] == 2
    assert "数据" in shared.cli("dataset", "list").out
    shared.cli("dataset", "delete", "数据")
    assert (folder / "猫" / "0 号.png").exists(), "the owner's files are not tandem's to delete"


def test_of_many_who_add_the_same_name_at_once_one_succeeds_and_its_files_stay(unharmed, squares, spec):
    def add(number):
        return unharmed.cli("dataset", "add", "same", squares, ("--copy", "--upload")[number % 2], check=False)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(add, range(8)))
    assert sorted(result.code == 0 for result in results) == [False] * 7 + [True], [result.err for result in results]
    assert all("exists" in result.err or "another request" in result.err for result in results if result.code)
    assert unharmed.train(spec(dataset="same", epochs=None, steps=2, register=None))["state"] == "succeeded"
    unharmed.cli("dataset", "delete", "same")


def test_deletion_in_use_is_refused_saying_by_whom(shared, squares, spec):
    shared.cli("dataset", "add", "squares", squares)
    job = shared.cli("train", spec(epochs=100000), "--json").json["job"]
    result = shared.cli("dataset", "delete", "squares", check=False)
    assert result.code == 5 and f"in use by job {job}" in result.err, result.err
    shared.cli("jobs", "cancel", job)
    wait_for("cancelled", lambda: shared.job(job)["state"] == "cancelled", timeout=240)
    shared.cli("dataset", "delete", "squares")
    assert shared.cli("dataset", "delete", "squares", check=False).code == 4
