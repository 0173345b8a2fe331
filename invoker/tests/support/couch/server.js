// A server of CouchDB's API in one folder, with users and what each may do. For tests.
//
//   node server.js --dir FOLDER --users JSON [--host ADDRESS] [--port PORT] [--while-stdin] [--remove]
//
// JSON: {"NAME": {"password": "…", "read": ["DATABASE"], "write": ["DATABASE"]}}; without `read` and
// `write` a user may do everything. The first line on standard output is the port. `--while-stdin`: ends
// when standard input does, so that it never outlives whoever started it; `--remove`: with its folder.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { parseArgs } = require('node:util');
const express = require('express-pouchdb');
const PouchDB = require('pouchdb');

const { values: options } = parseArgs({
  options: {
    dir: { type: 'string' },
    users: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    'while-stdin': { type: 'boolean', default: false },
    remove: { type: 'boolean', default: false },
  },
});
const users = new Map(Object.entries(JSON.parse(options.users)));

/** The status and body that CouchDB refuses a request with; undefined if it may go on. */
function refusal(request) {
  const [, encoded] = /^Basic (.+)$/i.exec(request.headers.authorization ?? '') ?? [];
  if (encoded === undefined) {
    return [401, { error: 'unauthorized', reason: 'Authentication required.' }];
  }
  const [name, ...rest] = Buffer.from(encoded, 'base64').toString().split(':');
  const user = users.get(name);
  if (user === undefined || user.password !== rest.join(':')) {
    return [401, { error: 'unauthorized', reason: 'Name or password is incorrect.' }];
  }
  const { read, write } = user;
  if (read === undefined && write === undefined) return undefined;
  const database = decodeURIComponent(request.url.split(/[/?]/)[1] ?? '');
  const reads = request.method === 'GET' || request.method === 'HEAD';
  if (write?.includes(database) || (reads && read?.includes(database))) return undefined;
  return [403, { error: 'forbidden', reason: 'You are not allowed to access this db.' }];
}

const app = express(
  PouchDB.defaults({ prefix: path.resolve(options.dir) + path.sep }),
  { mode: 'minimumForPouchDB', overrideMode: { exclude: ['compression'] } },
);
/** Whether an attachment is given to a document that there is not: PouchDB would make one. */
async function isForNobody(request) {
  const [, document] = /^(\/[^/?]+\/[^/?_][^/?]*)\/[^/?]+\?rev=/.exec(request.url) ?? [];
  if (request.method !== 'PUT' || document === undefined) return false;
  const { authorization } = request.headers;
  const found = await fetch(`http://127.0.0.1:${server.address().port}${document}`, { headers: { authorization } });
  await found.arrayBuffer();
  return found.status === 404;
}

const server = http.createServer(async (request, response) => {
  // CouchDB tells anyone whether it is up; health checks ask for that.
  let refused = request.url === '/_up' ? [200, { status: 'ok' }] : refusal(request);
  if (refused === undefined && await isForNobody(request)) {
    refused = [409, { error: 'conflict', reason: 'Document update conflict.' }];
  }
  if (refused === undefined) {
    app(request, response);
    return;
  }
  request.resume();
  response.writeHead(refused[0], { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(refused[1]));
});
server.listen(Number(options.port), options.host, () => console.log(server.address().port));

if (options['while-stdin']) {
  process.stdin.resume();
  process.stdin.on('end', () => {
    if (options.remove) fs.rmSync(options.dir, { recursive: true, force: true });
    process.exit();
  });
}
