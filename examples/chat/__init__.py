"""The comet chat: rooms in a browser, by WebSocket, server-sent events or long polls.

``make chat`` runs it. Read it from the top down:

``chat.py`` (a client, from what it says to when it falls silent), ``endpoints.py`` (what it may
say), ``node.py`` (this hub's channels, and the news of the store), ``channel.py``, ``message.py``;
then ``resting.py`` (a connection without a task), ``subscriber.py`` and ``transports/`` (the same
stream by four ways); ``stores/`` (memory, SQLite, Redis behind one interface). Around them stand
``access.py``, ``tokens.py``, ``limits.py``, ``fields.py``, ``presence.py``, ``admin.py``,
``metrics.py``, ``board.py``, ``access_log.py`` and ``pages.py``. ``http/`` knows nothing of chats.
"""
