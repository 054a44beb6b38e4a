"""Between an agent and its model: client wrapper, proxy, streams, upstreams."""
