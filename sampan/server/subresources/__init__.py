"""One file per subresource that is more than a view of its object; SUBRESOURCES lists them."""
