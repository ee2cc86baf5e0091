// Goes through rows against a Tars server, each of which must hold: `ok NAME` for each that did.
'use strict';

const assert = require('assert');
const Tars = require('@tars/rpc');
const { TarsInputStream, TarsOutputStream, UniAttribute } = require('@tars/stream');

const [address, ...wanted] = process.argv.slice(2);
const [host, port] = address.split(':');

// One for each servant and `wait`; each has a connection.
function worker(servant, wait = 60000) {
  function Proxy() {}
  const { _worker } = Tars.client.stringToProxy(Proxy, `${servant}@tcp -h ${host} -p ${port} -t ${wait}`);
  _worker.timeout = 10000;
  return _worker;
}

function packed(write) {
  const out = new TarsOutputStream();
  write(out);
  return out.getBinBuffer();
}

async function echo(text, property, to = worker('App.Echo.EchoObj')) {
  const { response } = await to.tars_invoke('echo', packed(out => out.writeString(1, text)), property);
  return { text: new TarsInputStream(response.sBuffer).readString(0, true, ''), context: response.context.toObject() };
}

async function code(call) {
  try {
    await call;
  } catch (failed) {
    return failed.error.code;
  }
  return 0;
}

const rows = {
  async calls() {
    for (const text of ['hello', '', 'ä\u4e2d', 'x'.repeat(100000)]) {
      assert.strictEqual((await echo(text)).text, text);
    }
  },
  // Many at a time over one connection, the slowest first.
  async at_once() {
    const to = worker('App.Echo.EchoObj');
    await Promise.all([...Array(200).keys()].map(async n => {
      if (n % 10 !== 0) {
        assert.strictEqual((await echo(`value ${n}`, {}, to)).text, `value ${n}`);
        return;
      }
      const { response } = await to.tars_invoke('pause', packed(out => out.writeInt32(1, 200 - n)));
      assert.strictEqual(new TarsInputStream(response.sBuffer).readInt32(0, true, 0), 200 - n);
    }));
  },
  async context() {
    const { context } = await echo('x', { context: { zone: 'blue', empty: '', long: 'y'.repeat(300) } });
    assert.strictEqual(context.zone, 'blue');
    assert.strictEqual(context.long.length, 300);
  },
  // What two gateways put in, and came back.
  async added() {
    const { context } = await echo('x', { context: { zone: 'blue' } });
    assert.deepStrictEqual(context, { zone: 'blue', hop: 'one', back: 'two' });
  },
  async failure() {
    const to = worker('App.Echo.EchoObj');
    assert.strictEqual(await code(to.tars_invoke('nothing', packed(() => {}))), Tars.error.SERVER.FUNC_NOT_FOUND);
  },
  // A servant that no route takes: an answer at once, and it is an error.
  async no_route() {
    const begun = Date.now();
    assert.strictEqual(await code(echo('x', {}, worker('App.Other.Obj'))), Tars.error.SERVER.SERVANT_NOT_FOUND);
    assert.ok(Date.now() - begun < 5000, 'at once');
  },
  async one_way() {
    const to = worker('App.Echo.EchoObj');
    await code(to.tars_invoke('note', packed(out => out.writeString(1, 'in passing')), { packetType: 1 }));
    assert.strictEqual((await echo('after', {}, to)).text, 'after');
  },
  async ping() {
    const { response } = await worker('App.Echo.EchoObj').tars_invoke('tars_ping', packed(() => {}));
    assert.strictEqual(new TarsInputStream(response.sBuffer).readInt32(0, true, 1), 0);
  },
  // The same with arguments by name: an answer looks like a request there.
  async tup() {
    const to = worker('App.Echo.EchoObj', 50000);
    to.version = 3;
    const args = new UniAttribute();
    args.tupVersion = 3;
    args.writeString('text', 'hello');
    const { response } = await to.tup_invoke('echo', args);
    assert.strictEqual(response.tup.readString('said'), 'hello');
    assert.strictEqual(await code(to.tup_invoke('nothing', args)), Tars.error.SERVER.FUNC_NOT_FOUND);
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
