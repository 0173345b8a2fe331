// OpenWhisk's action proxy for Node, as small as it can be and still right (contract C-93).
//
//   POST /init  {"value": {"name", "main", "code", "binary", "env"}}
//   POST /run   {"value": arguments, "activation_id": "...", ...}: strings become __OW_<NAME>
//
// One run at a time unless __OW_ALLOW_CONCURRENT is "true". Code is one module, or a zip with
// package.json or index.js at its root.
'use strict';
const fs = require('fs');
const http = require('http');
const Module = require('module');
const os = require('os');
const path = require('path');
const zlib = require('zlib');

const SENTINEL = 'XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX';
const BODY_LIMIT = 48 * 1024 * 1024;
const concurrent = process.env.__OW_ALLOW_CONCURRENT === 'true';

let main = null;
let initializing = false;
let running = 0;
let isBroken = false;

class Refusal extends Error {
    constructor(status, text) {
        super(text);
        this.status = status;
    }
}

function initialize(message) {
    if (main || initializing) throw new Refusal(403, 'Cannot initialize the action more than once.');
    const { main: entry = 'main', code, binary, env = {} } = message.value || {};
    if (typeof code !== 'string' || code === '') throw new Refusal(403, 'Missing main/no code to execute.');
    initializing = true;
    for (const [name, value] of Object.entries(env)) {
        process.env[name] = typeof value === 'string' ? value : JSON.stringify(value);
    }
    try {
        main = binary ? loadZip(Buffer.from(code, 'base64'), entry) : load(code, entry);
    } catch (error) {
        isBroken = true;
        console.error(error.stack || error);
        throw new Refusal(502, `Initialization has failed due to: ${error.stack || error}`);
    } finally {
        initializing = false;
    }
    return { OK: true };
}

/** A function exported under that name (`a.b`: a member), or declared at the top of the code. */
function load(code, entry) {
    const [first] = entry.split('.');
    const module = new Module(path.join(process.cwd(), 'action.js'));
    module.paths = Module._nodeModulePaths(process.cwd());
    module._compile(`${code}\n;if (exports.${first} === undefined && typeof ${first} !== 'undefined') exports.${first} = ${first};`, module.id);
    return member(module.exports, entry);
}

function loadZip(zip, entry) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'action-'));
    for (const [name, content] of files(zip)) {
        const file = path.join(folder, name);
        if (!file.startsWith(folder + path.sep)) throw new Error(`The zip has a file outside of it: ${name}`);
        fs.mkdirSync(path.dirname(file), { recursive: true });
        fs.writeFileSync(file, content);
    }
    if (!['package.json', 'index.js'].some((name) => fs.existsSync(path.join(folder, name)))) {
        throw new Error('Zipped actions must contain either package.json or index.js at the root.');
    }
    process.chdir(folder);
    return member(require(folder), entry);
}

/** Names and contents, as the directory at the zip's end lists them (PKWARE's APPNOTE, 4.3). */
function files(zip) {
    const end = zip.lastIndexOf('PK\x05\x06', undefined, 'latin1');
    if (end < 0) throw new Error('The code is no zip file.');
    const found = [];
    let at = zip.readUInt32LE(end + 16);
    for (let left = zip.readUInt16LE(end + 10); left > 0; left -= 1) {
        const [method, packed] = [zip.readUInt16LE(at + 10), zip.readUInt32LE(at + 20)];
        const lengths = [28, 30, 32].map((offset) => zip.readUInt16LE(at + offset));
        const header = zip.readUInt32LE(at + 42);
        const name = zip.toString('utf8', at + 46, at + 46 + lengths[0]);
        at += 46 + lengths[0] + lengths[1] + lengths[2];
        if (name.endsWith('/')) continue;
        const begin = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
        const content = zip.subarray(begin, begin + packed);
        if (method !== 0 && method !== 8) throw new Error(`The zip packs ${name} in a way that is not known: ${method}`);
        found.push([name, method === 8 ? zlib.inflateRawSync(content) : content]);
    }
    return found;
}

function member(exported, entry) {
    const found = entry.split('.').reduce((object, name) => (object == null ? object : object[name]), exported);
    if (typeof found !== 'function') throw new Error(`Action entrypoint '${entry}' is not a function.`);
    return found;
}

/** What the action throws at once is a failure of it, a rejected promise its own answer. */
function outcome(args) {
    const result = main(args);
    return Promise.resolve(result).then(
        (value) => (value === undefined ? {} : value),
        (error) => ({ error: error instanceof Error ? `${error}` : (error === undefined ? {} : error) }),
    );
}

async function run(message) {
    if (!main) throw new Refusal(500, 'Action was not initialized.');
    if (isBroken) throw new Refusal(502, 'The action failed before and is not run again.');
    if (running > 0 && !concurrent) throw new Refusal(403, 'The action is running already.');
    running += 1;
    try {
        for (const [name, value] of Object.entries(message)) {
            if (name !== 'value' && typeof value === 'string') process.env[`__OW_${name.toUpperCase()}`] = value;
        }
        const result = await outcome(message.value === undefined ? {} : message.value);
        if (result === null || typeof result !== 'object') {
            throw new Refusal(502, 'The action did not return a dictionary or array.');
        }
        return result;
    } catch (error) {
        isBroken = true;
        if (!(error instanceof Refusal)) console.error((error && error.stack) || error);
        throw new Refusal(502, error instanceof Refusal ? error.message : `An error has occurred: ${error}`);
    } finally {
        running -= 1;
        // Written through before the answer is: whoever reads the log then finds both.
        await Promise.all([process.stdout, process.stderr].map(
            (stream) => new Promise((done) => stream.write(`${SENTINEL}\n`, done))));
    }
}

function read(request) {
    return new Promise((resolve, reject) => {
        const chunks = [];
        let length = 0;
        request.on('data', (chunk) => {
            length += chunk.length;
            if (length > BODY_LIMIT) reject(new Refusal(413, 'The request is too large.'));
            else chunks.push(chunk);
        });
        request.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
        request.on('error', reject);
    });
}

async function answer(request) {
    const text = await read(request);
    let message;
    try {
        message = text === '' ? {} : JSON.parse(text);
    } catch (error) {
        throw new Refusal(400, `The request is not JSON: ${error.message}`);
    }
    if (request.method !== 'POST') throw new Refusal(404, 'There is only POST.');
    if (request.url === '/init') return initialize(message);
    if (request.url === '/run') return run(message);
    throw new Refusal(404, 'There are only /init and /run.');
}

const server = http.createServer((request, response) => {
    const send = (status, value) => {
        const body = Buffer.from(JSON.stringify(value));
        response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': body.length });
        response.end(body);
    };
    answer(request).then(
        (value) => send(200, value),
        (error) => send(error.status || 500, { error: error.message || String(error) }),
    );
});
server.requestTimeout = 0;
server.headersTimeout = 0;
server.listen(8080);
process.on('SIGTERM', () => process.exit(0));
