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
  // What a server of Java answers by itself: a method by its name.
  $invoke(method, types, values) {
    if (types && types.length !== values.length) throw new Error(`${values.length} values of ${types.length} types`);
    return methods[method](...values);
  },
};
const registry = { async ready() {}, async registerServices() {}, close() {} };
const services = { echo: { dubboInterface: 'com.example.Echo', methods } };
const service = DubboService.from({ registry, services });
service.ready().then(() => console.log(`serving ${service.getPort()}`));
