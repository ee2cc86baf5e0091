// A Bolt server as sofa-rpc-node makes one. Says on its output when it serves, and what it was told one-way.
'use strict';

const { RpcServer } = require('sofa-rpc-node').server;

const logger = { info() {}, warn() {}, debug() {}, error: console.error };
const server = new RpcServer({ logger, port: Number(process.argv[2]) });
server.addService({ interfaceName: 'com.example.Echo', version: '1.0' }, {
  async echo(value) { return value; },
  async pause(milliseconds) {
    await new Promise(resolve => setTimeout(resolve, milliseconds));
    return milliseconds;
  },
  async fail(text) { throw new Error(text); },
  async note(text) { console.log(`noted ${text}`); },
});
server.start();
server.ready(() => console.log('serving'));
