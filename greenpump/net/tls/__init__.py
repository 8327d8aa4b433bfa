"""TLS: SSLContext and SSLSocket as in the stdlib's ``ssl``, cooperative."""

from .context import SSLContext, create_default_context, wrap_socket
from .socket import SSLSocket

__all__ = ["SSLContext", "SSLSocket", "create_default_context", "wrap_socket"]
