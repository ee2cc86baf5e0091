// Dubbo's Thrift: the messages are made and read by npm's thrift, the header before them is written by hand.
'use strict';

const net = require('net');
const thrift = require('thrift');

const { Type } = thrift.Thrift;
const MAGIC = 0xdabc;

// A message with one argument or result: the field's number and its text.
function message(name, type, seqid, fields) {
  let out;
  const protocol = new thrift.TBinaryProtocol(new thrift.TBufferedTransport(null, bytes => { out = bytes; }));
  protocol.writeMessageBegin(name, type, seqid);
  protocol.writeStructBegin('fields');
  for (const [id, text] of fields) {
    protocol.writeFieldBegin('text', Type.STRING, id);
    protocol.writeString(text);
    protocol.writeFieldEnd();
  }
  protocol.writeFieldStop();
  protocol.writeStructEnd();
  protocol.writeMessageEnd();
  protocol.flush();
  return out;
}

function frame(service, id, body) {
  const name = Buffer.from(service);
  const header = Buffer.alloc(2 + 4 + 2 + 1 + 4 + name.length + 8);
  header.writeUInt16BE(MAGIC, 0);
  header.writeUInt32BE(header.length + body.length, 2);
  header.writeUInt16BE(header.length, 6);
  header.writeUInt8(1, 8);
  header.writeUInt32BE(name.length, 9);
  name.copy(header, 13);
  header.writeBigInt64BE(id, header.length - 8);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(header.length + body.length);
  return Buffer.concat([length, header, body]);
}

// What a message says: its name, type and number, and its fields by theirs.
function parsed(body) {
  let said;
  thrift.TBufferedTransport.receiver(transport => {
    const protocol = new thrift.TBinaryProtocol(transport);
    const { fname, mtype, rseqid } = protocol.readMessageBegin();
    said = { name: fname, type: mtype, seqid: rseqid, fields: {} };
    protocol.readStructBegin();
    for (;;) {
      const { ftype, fid } = protocol.readFieldBegin();
      if (ftype === Type.STOP) break;
      said.fields[fid] = ftype === Type.STRING ? protocol.readString() : protocol.readI32();
      protocol.readFieldEnd();
    }
    protocol.readStructEnd();
    protocol.readMessageEnd();
    transport.commitPosition();
  })(body);
  return said;
}

// Calls `take` with each frame that comes on a socket.
function frames(socket, take) {
  let held = Buffer.alloc(0);
  socket.on('data', bytes => {
    held = Buffer.concat([held, bytes]);
    while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
      const whole = held.subarray(4, 4 + held.readUInt32BE(0));
      held = held.subarray(4 + whole.length);
      if (whole.readUInt16BE(0) !== MAGIC || whole.readUInt32BE(2) !== whole.length) throw new Error('no frame');
      const end = whole.readUInt16BE(6);
      const service = whole.toString('utf8', 13, 13 + whole.readUInt32BE(9));
      take({ service, id: whole.readBigInt64BE(end - 8), ...parsed(Buffer.from(whole.subarray(end))) });
    }
  });
}

module.exports = { message, frame, frames, net, types: thrift.Thrift.MessageType };
