// Prints what a request of sofa-rpc for `echo` says: its class and its content, in hexadecimal.
'use strict';

const bolt = require('sofa-bolt-node');

const encoder = bolt.encoder({ sentReqs: new Map() });
const pieces = [];
encoder.on('data', piece => pieces.push(piece));
encoder.writeRequest(1, {
  serverSignature: 'com.example.Echo:1.0',
  methodName: 'echo',
  methodArgSigs: ['java.lang.String'],
  args: [process.argv[2]],
  timeout: 5000,
  requestProps: {},
  targetAppName: 'e2e',
});
setTimeout(() => {
  const frame = Buffer.concat(pieces);
  const [classLen, headerLen] = [frame.readUInt16BE(14), frame.readUInt16BE(16)];
  console.log(frame.toString('utf8', 22, 22 + classLen));
  console.log(frame.toString('hex', 22 + classLen + headerLen));
}, 50);
