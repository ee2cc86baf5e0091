// A Tars server as @tars/rpc makes one, on the port that it is given. Says on its output that it serves.
'use strict';

const Tars = require('@tars/rpc');
const { TarsInputStream, TarsOutputStream, UniAttribute, BinBuffer } = require('@tars/stream');

function Echo() {}
Echo.prototype.initialize = () => {};
Echo.prototype.onDispatch = (current, name, buffer) => {
  if (current.getRequestVersion() === 3) return tup(current, name, buffer);
  const args = new TarsInputStream(buffer);
  const answer = write => {
    const out = new TarsOutputStream();
    write(out);
    current.doResponse(out.getBinBuffer());
  };
  switch (name) {
    case 'echo': {
      const text = args.readString(1, true, '');
      current.setResponseContext(current.getContext().toObject());
      answer(out => out.writeString(0, text));
      return 0;
    }
    case 'pause': {
      const milliseconds = args.readInt32(1, true, 0);
      setTimeout(() => answer(out => out.writeInt32(0, milliseconds)), milliseconds);
      return 0;
    }
    case 'note':
      console.log(`noted ${args.readString(1, true, '')}`);
      return 0;
    default:
      return Tars.error.SERVER.FUNC_NOT_FOUND;
  }
};

function tup(current, name, buffer) {
  if (name !== 'echo') return Tars.error.SERVER.FUNC_NOT_FOUND;
  const args = new UniAttribute();
  args.tupVersion = 3;
  args.decode(buffer);
  const out = new UniAttribute();
  out.tupVersion = 3;
  out.writeString('said', args.readString('text'));
  current.doResponse(out.encode());
  return 0;
}

const endpoint = `tcp -h 127.0.0.1 -p ${process.argv[2]} -t 60000`;
Tars.server.createServer(Echo).start({ endpoint, servant: 'App.Echo.EchoObj', protocol: 'tars' });
console.log('serving');
