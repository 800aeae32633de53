"""A guestbook: a web front end, a Redis-like back end, and the images of both."""
