"""What people see of objects in tables: for the API's clients and for podlite's own commands alike."""
