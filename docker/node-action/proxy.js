// OpenWhisk's action proxy for Node, as small as it can be and still right (contract C-93).
//
//   POST /init  {"value": {"name", "main", "code", "binary", "env"}}
//   POST /run   {"value": arguments, "activation_id": "...", ...}: strings become __OW_<NAME>
//
// One run at a time unless __OW_ALLOW_CONCURRENT is "true". Code is one module; zips are refused with a sentence.
'use strict';
const http = require('http');
const Module = require('module');
const path = require('path');

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
        if (binary) throw new Error('zip files cannot be unpacked in this image');
        main = load(code, entry);
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
    const names = entry.split('.');
    const [first] = names;
    const module = new Module(path.join(process.cwd(), 'action.js'));
    module.paths = Module._nodeModulePaths(process.cwd());
    module._compile(`${code}\n;if (exports.${first} === undefined && typeof ${first} !== 'undefined') exports.${first} = ${first};`, module.id);
    const found = names.reduce((object, name) => (object == null ? object : object[name]), module.exports);
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
