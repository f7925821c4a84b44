// Loaded before an application: SIGTERM ends it as `process.exit` does, so that V8 writes its profile.
'use strict';

process.on('SIGTERM', () => process.exit(0));
