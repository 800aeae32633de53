"""What asyncio lacks: supervised tasks, bounded queues, backoff, an injected clock."""
