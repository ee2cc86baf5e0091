// A server of Dubbo's Thrift. Says on its output where it serves.
'use strict';

const { message, frame, frames, net, types } = require('./peer.js');

const server = net.createServer(socket => {
  socket.on('error', () => {});
  frames(socket, ({ service, id, name, type, seqid, fields }) => {
    const answer = (kind, said) => socket.write(frame(service, id, message(name, kind, seqid, said)));
    if (type === types.ONEWAY) {
      console.log(`noted ${fields[1]}`);
    } else if (name === 'echo') {
      answer(types.REPLY, [[0, fields[1]]]);
    } else if (name === 'pause') {
      setTimeout(() => answer(types.REPLY, [[0, fields[1]]]), Number(fields[1]));
    } else {
      answer(types.EXCEPTION, [[1, 'no such method']]);
    }
  });
});
server.listen(0, '127.0.0.1', () => console.log(`serving ${server.address().port}`));
