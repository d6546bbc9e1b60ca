"""Where the agent's pods come from: manifest files, a URL, and what was handed to it through its API."""
