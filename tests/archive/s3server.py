"""A small store of objects that speaks S3 and lets nobody in whose signature is wrong.

Signatures: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

ACCESS_KEY, SECRET_KEY, REGION, BUCKET = "AKIDTEST", "secret/of+the tests", "eu-test-1", "archive"


class S3Server:
    """Objects in memory, by their keys."""

    def __init__(self, *, conditional: bool = True) -> None:
        """`conditional`: whether it knows of objects that must not be there yet."""
        self.conditional = conditional
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.refused = 0
        self.broken_puts = 0
        """So many of the next PUTs are stored and then answered with 500."""
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"s3": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        """End it."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    s3: S3Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.s3.requests.append(
            f"{self.command} {unquote(parts.path)}{'?' + parts.query if parts.query else ''}"
        )
        if not self.is_signed(parts.path, parts.query, body):
            self.s3.refused += 1
            return self.fail(403, "SignatureDoesNotMatch")
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if bucket != BUCKET:
            return self.fail(404, "NoSuchBucket")
        return getattr(self, f"on_{self.command.lower()}")(key, query, body)  # type: ignore[no-any-return]

    do_GET = do_HEAD = do_PUT = do_POST = handle_request  # noqa: N815

    def on_get(self, key: str, query: dict[str, str], body: bytes) -> None:
        found = self.s3.objects.get(key)
        if found is None:
            return self.fail(404, "NoSuchKey")
        when = "Mon, 23 Nov 2026 05:00:00 GMT"
        return self.answer(200, found, **{"ETag": f'"{len(found)}"', "Last-Modified": when})

    def on_head(self, key: str, query: dict[str, str], body: bytes) -> None:
        self.on_get(key, query, body)

    def on_put(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            self.s3.uploads[query["uploadId"]][1][int(query["partNumber"])] = body
            return self.answer(200, ETag=f'"{query["partNumber"]}"')
        if "If-None-Match" in self.headers:
            if not self.s3.conditional:
                return self.fail(501, "NotImplemented")
            if key in self.s3.objects:
                return self.fail(412, "PreconditionFailed")
        self.s3.objects[key] = body
        if self.s3.broken_puts:
            self.s3.broken_puts -= 1
            return self.fail(500, "InternalError")
        return self.answer(200, ETag='"1"')

    def on_post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            upload = f"upload-{len(self.s3.uploads)}"
            self.s3.uploads[upload] = (key, {})
            reply = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, reply.encode())
        target, pieces = self.s3.uploads.pop(query["uploadId"])
        self.s3.objects[target] = b"".join(pieces[number] for number in sorted(pieces))
        return self.answer(
            200, b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
        )

    def is_signed(self, path: str, query: str, body: bytes) -> bool:
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        if scheme != "AWS4-HMAC-SHA256":
            return False
        given = dict(part.strip().split("=", 1) for part in rest.split(","))
        access_key, day, region, service, last = given["Credential"].split("/")
        payload = self.headers["x-amz-content-sha256"]
        if payload not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            return False
        names = given["SignedHeaders"].split(";")
        pairs = sorted(parse_qsl(query, keep_blank_values=True))
        canonical = "\n".join(
            (
                self.command,
                quote(unquote(path), safe="/-_.~"),
                "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs),
                *(f"{name}:{' '.join(self.headers[name].split())}" for name in names),
                "",
                ";".join(names),
                payload,
            )
        )
        scope = f"{day}/{region}/{service}/{last}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.headers['x-amz-date']}\n{scope}\n{digest}"
        key = f"AWS4{SECRET_KEY}".encode()
        for part in (day, region, service, last):
            key = hmac.digest(key, part.encode(), "sha256")
        expected = hmac.digest(key, text.encode(), "sha256").hex()
        return (access_key, region, service) == (ACCESS_KEY, REGION, "s3") and hmac.compare_digest(
            expected, given["Signature"]
        )
