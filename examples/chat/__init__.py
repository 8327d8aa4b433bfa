"""The comet chat: rooms in a browser, by long polls. ``make chat`` runs it.

Read it from the top down: ``chat.py`` (a client, from its first request to its last),
``endpoints.py`` (sign, publish, subscribe), ``channels.py`` (a room's history and who waits for
more), ``jsonp.py``, ``pages.py``, and below them ``http/``, which knows nothing of chats.
"""
