"""Everything that knows vLLM: KV cache spec and manager, scheduler, worker, backends, start-up checks."""
