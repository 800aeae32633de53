"""Services to nftables: the rules are a pure function of Services and EndpointSlices."""
