// Goes through rows against a Dubbo server, each of which must hold: `ok NAME` for each that did.
'use strict';

const assert = require('assert');
const { DubboDirectlyInvoker } = require('apache-dubbo-consumer');
const java = require('js-to-java');

const [dubboHost, ...wanted] = process.argv.slice(2);
const invoker = DubboDirectlyInvoker.from({ dubboHost, dubboVersion: '2.0.2', dubboInvokeTimeout: 10000 });

function service(dubboInterface) {
  return invoker.proxyService({
    dubboInterface,
    version: '0.0.0',
    methods: {
      echo: text => [java.String(text)],
      pause: milliseconds => [java.Integer(milliseconds)],
      fail: text => [java.String(text)],
    },
  });
}

async function answer(call) {
  const { res, err } = await call;
  if (err) throw err;
  return res;
}

const rows = {
  async calls(echo) {
    for (const text of ['hello', '', 'ä\u4e2d', 'x'.repeat(100000)]) {
      assert.strictEqual(await answer(echo.echo(text)), text);
    }
  },
  // Many at a time over one connection, the slowest first.
  async at_once(echo) {
    await Promise.all([...Array(200).keys()].map(async n => {
      const got = n % 10 === 0 ? await answer(echo.pause(200 - n)) : await answer(echo.echo(`value ${n}`));
      assert.strictEqual(got, n % 10 === 0 ? 200 - n : `value ${n}`);
    }));
  },
  async failure(echo) {
    await assert.rejects(answer(echo.fail('no such luck')), /no such luck/);
  },
  // A service that no route takes: an answer at once, and it is an error.
  async no_route() {
    const begun = Date.now();
    await assert.rejects(answer(service('com.example.Other').echo('x')));
    assert.ok(Date.now() - begun < 5000, 'at once');
  },
};

async function main() {
  const echo = service('com.example.Echo');
  for (const name of wanted) {
    await rows[name](echo);
    console.log(`ok ${name}`);
  }
}

main().then(() => process.exit(0), error => {
  console.log(error);
  process.exit(1);
});
