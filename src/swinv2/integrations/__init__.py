"""Our models under the names and interfaces of other libraries; importing a module here registers them there."""
