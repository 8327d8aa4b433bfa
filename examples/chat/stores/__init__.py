"""Stores: where a channel's history is kept, and how news gets from one node to all."""

from .store import Bounds, Feed, Store, StoreDown, open_store

__all__ = ["Bounds", "Feed", "Store", "StoreDown", "open_store"]
