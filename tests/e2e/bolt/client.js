// Goes through rows against a Bolt server, each of which must hold: `ok NAME` for each that did.
'use strict';

const assert = require('assert');
const net = require('net');
const bolt = require('sofa-bolt-node');
const { RpcClient } = require('sofa-rpc-node').client;

const [address, ...wanted] = process.argv.slice(2);
const logger = { info() {}, warn() {}, debug() {}, error() {} };
const client = new RpcClient({ logger });
const SERVICE = 'com.example.Echo:1.0';

function ask(consumer, method, args) {
  return consumer.invoke(method, args, { responseTimeout: 10000 });
}

// What Bolt itself does, below sofa-rpc: frames of either version on a connection of their own.
function connection(options) {
  const [host, port] = address.split(':');
  const socket = net.connect(Number(port), host);
  const sentReqs = new Map();
  const encoder = bolt.encoder({ sentReqs });
  const decoder = bolt.decoder({ sentReqs });
  Object.assign(encoder, options);
  encoder.pipe(socket).pipe(decoder);
  const answers = [];
  let waiting = [];
  const got = packet => {
    answers.push(packet);
    waiting = waiting.filter(([count, resolve]) => answers.length < count || (resolve(answers), false));
  };
  decoder.on('response', got);
  decoder.on('heartbeat_ack', got);
  const all = count => (answers.length >= count ? Promise.resolve(answers) : new Promise(resolve => waiting.push([count, resolve])));
  return { encoder, sentReqs, all, end: () => socket.destroy() };
}

function request(method, args, more = {}) {
  return {
    serverSignature: SERVICE,
    methodName: method,
    methodArgSigs: args.map(() => 'java.lang.String'),
    args,
    timeout: 5000,
    requestProps: { service: SERVICE },
    targetAppName: 'e2e',
    ...more,
  };
}

const rows = {
  async calls(consumer) {
    for (const value of ['hello', 7, true, null, [1, 2], { a: 'b' }, 'x'.repeat(200000)]) {
      assert.deepStrictEqual(await ask(consumer, 'echo', [value]), value);
    }
  },
  // Many at a time over one connection, the slowest first.
  async at_once(consumer) {
    const all = [...Array(300).keys()].map(n => (n % 10 === 0
      ? ask(consumer, 'pause', [300 - n]).then(got => assert.strictEqual(got, 300 - n))
      : ask(consumer, 'echo', [`value ${n}`]).then(got => assert.strictEqual(got, `value ${n}`))));
    await Promise.all(all);
  },
  async failure(consumer) {
    await assert.rejects(ask(consumer, 'fail', ['no such luck']), /no such luck/);
  },
  // The frame says how long its client waits; the gateway's answer says that it did not come.
  async timeout(consumer) {
    const { encoder, sentReqs, all, end } = connection({});
    sentReqs.set(1, { req: {}, classCache: new Map() });
    encoder.writeRequest(1, request('pause', [2000], { timeout: 200 }));
    const [answer] = await all(1);
    end();
    assert.strictEqual(answer.packetId, 1);
    assert.ok(answer.data.error, 'an error');
    assert.strictEqual(answer.data.error.resultCode === undefined ? 7 : answer.data.error.resultCode, 7);
    assert.strictEqual(await ask(consumer, 'echo', ['after']), 'after');
  },
  // A service that no route takes: an answer at once, and it is an error.
  async no_route() {
    const { encoder, sentReqs, all, end } = connection({});
    sentReqs.set(9, { req: {}, classCache: new Map() });
    encoder.writeRequest(9, request('echo', ['x'], { serverSignature: 'com.example.Other:1.0' }));
    const [answer] = await all(1);
    end();
    assert.strictEqual(answer.packetId, 9);
    assert.ok(answer.data.error, 'an error');
  },
  async one_way() {
    const { encoder, all, end } = connection({});
    encoder.writeRequest(1, request('note', ['in passing'], { oneway: true }));
    encoder.writeHeartbeat(2, { clientUrl: 'here' });
    const [answer] = await all(1);
    end();
    assert.strictEqual(answer.packetType, 'heartbeat_ack');
    assert.strictEqual(answer.packetId, 2);
  },
  async version_2() {
    for (const crcEnable of [false, true]) {
      const { encoder, sentReqs, all, end } = connection({ protocolType: 'bolt2', boltVersion: 2, crcEnable });
      sentReqs.set(5, { req: {}, classCache: new Map() });
      encoder.writeRequest(5, request('echo', ['second']));
      const [answer] = await all(1);
      end();
      assert.strictEqual(answer.packetId, 5);
      assert.strictEqual(answer.data.appResponse, 'second');
      assert.strictEqual(!!answer.options.crcEnable, crcEnable);
    }
  },
};

async function main() {
  const consumer = client.createConsumer({ interfaceName: 'com.example.Echo', version: '1.0', serverHost: `bolt://${address}` });
  await consumer.ready();
  for (const name of wanted) {
    await rows[name](consumer);
    console.log(`ok ${name}`);
  }
}

main().then(() => process.exit(0), error => {
  console.log(error);
  process.exit(1);
});
