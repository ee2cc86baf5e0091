// Goes through rows against a server of Dubbo's Thrift, each of which must hold: `ok NAME` for each that did.
'use strict';

const assert = require('assert');
const { message, frame, frames, net, types } = require('./peer.js');

const [address, ...wanted] = process.argv.slice(2);
const [host, port] = address.split(':');
const socket = net.connect(Number(port), host);
const waiting = new Map();
let last = 0n;

frames(socket, answer => {
  const take = waiting.get(answer.id);
  waiting.delete(answer.id);
  take(answer);
});
socket.on('close', () => process.exit(2));

// What comes back for a call: under its number, as its name, and with its own sequence.
async function call(name, text, service = 'com.example.Echo') {
  const id = ++last;
  const seqid = Number(id % 1000n) + 7;
  const answered = new Promise(take => waiting.set(id, take));
  socket.write(frame(service, id, message(name, types.CALL, seqid, [[1, text]])));
  const answer = await answered;
  assert.deepStrictEqual([answer.name, answer.seqid, answer.service], [name, seqid, service]);
  return answer;
}

const rows = {
  async calls() {
    for (const text of ['hello', '', 'ä\u4e2d', 'x'.repeat(100000)]) {
      const { type, fields } = await call('echo', text);
      assert.deepStrictEqual([type, fields], [types.REPLY, { 0: text }]);
    }
  },
  // Many at a time over one connection, the slowest first.
  async at_once() {
    await Promise.all([...Array(200).keys()].map(async n => {
      const text = n % 10 === 0 ? `${200 - n}` : `value ${n}`;
      assert.strictEqual((await call(n % 10 === 0 ? 'pause' : 'echo', text)).fields[0], text);
    }));
  },
  async failure() {
    const { type, fields } = await call('nothing', 'x');
    assert.deepStrictEqual([type, fields], [types.EXCEPTION, { 1: 'no such method' }]);
  },
  // A service that no route takes: an answer at once, and it is an exception of Thrift's own.
  async no_route() {
    const begun = Date.now();
    const { type, fields } = await call('echo', 'x', 'com.example.Other');
    assert.deepStrictEqual([type, fields], [types.EXCEPTION, { 1: 'router unavailable', 2: 1 }]);
    assert.ok(Date.now() - begun < 5000, 'at once');
  },
  async one_way() {
    socket.write(frame('com.example.Echo', ++last, message('note', types.ONEWAY, 1, [[1, 'in passing']])));
    assert.strictEqual((await call('echo', 'after')).fields[0], 'after');
  },
};

async function main() {
  for (const name of wanted) {
    await rows[name]();
    console.log(`ok ${name}`);
  }
}

main().then(() => process.exit(0), error => {
  console.log(error);
  process.exit(1);
});
