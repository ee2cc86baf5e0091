// A Dubbo server as apache-dubbo-service makes one. Says on its output where it serves.
'use strict';

const { DubboService } = require('apache-dubbo-service');
const java = require('js-to-java');

const methods = {
  echo(value) { return java.String(value); },
  async pause(milliseconds) {
    await new Promise(resolve => setTimeout(resolve, milliseconds));
    return java.Integer(milliseconds);
  },
  fail(text) { throw new Error(text); },
};
const registry = { async ready() {}, async registerServices() {}, close() {} };
const services = { echo: { dubboInterface: 'com.example.Echo', methods } };
const service = DubboService.from({ registry, services });
service.ready().then(() => console.log(`serving ${service.getPort()}`));
