"""A few hundred requests of benchmarks/app_fuzz.py, in process."""

from collections import Counter

from benchmarks.app_fuzz import Chance, clips, fuzz, upload
from gencompositor_jax.jobs.limits import Limits
from tests.app.conftest import serving


def test_random_requests_are_answered_and_read_nothing_else(tmp_path):
    (tmp_path / "secret.txt").write_text("the-secret-beside-the-folder")
    files, statuses = clips(), Counter()
    folder = tmp_path / "studio"
    folder.mkdir()
    with serving(folder, Limits(queue=5, upload_mib=1)) as studio:
        for name, data in files.items():
            assert upload(studio.address, name, data) == 201
        for request, status, wrong in fuzz(studio.address, Chance(7, files, tmp_path / "secret.txt"), 300):
            assert wrong is None, (request, wrong)
            statuses[status] += 1
    assert {200, 404, 422} <= statuses.keys() and statuses[200] > 50
    assert {path.name for path in tmp_path.iterdir()} == {"studio", "secret.txt"}
