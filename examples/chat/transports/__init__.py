"""How the one stream gets to a client: long poll, JSONP, server-sent events, WebSocket."""
