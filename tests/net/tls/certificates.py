"""Certificates for tests, made by the openssl command when they run: none that expires."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Certificates:
    """An authority, and what it signs, in files of ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl(
            *("req", "-x509", "-nodes", "-subj", "/CN=greenpump test authority"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *self._key("authority"),
            *("-out", "authority.pem", "-days", "2"),
        )
        self.authority = folder / "authority.pem"

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Certificate and key of the first name, good for all of them; the files."""
        stem = names[0]
        certificate, key = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        if not certificate.exists():
            alternatives = ",".join(
                f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names
            )
            extensions = self.folder / f"{stem}.ext"
            extensions.write_text(
                f"subjectAltName={alternatives}\nbasicConstraints=critical,CA:FALSE\n"
                "keyUsage=critical,digitalSignature\n"
                "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            )
            self._openssl(
                "req", "-new", "-nodes", "-subj", f"/CN={stem}", *self._key(stem), "-out", "request"
            )
            self._openssl(
                *("x509", "-req", "-in", "request", "-CA", "authority.pem"),
                *("-CAkey", "authority.key", "-CAcreateserial", "-days", "2"),
                *("-extfile", extensions.name, "-out", certificate.name),
            )
        return certificate, key

    def server(self, *names: str) -> ssl.SSLContext:
        """A server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*(names or ("localhost", "127.0.0.1"))))
        context.load_verify_locations(self.authority)
        return context

    def client(self) -> ssl.SSLContext:
        """A client's context."""
        return ssl.create_default_context(cafile=str(self.authority))

    def _key(self, stem: str) -> tuple[str, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", f"{stem}.key")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60
        )
