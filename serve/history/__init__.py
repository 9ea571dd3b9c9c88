"""Events and impressions of users: durable writes, reads, retention, and the history that a model gets."""
