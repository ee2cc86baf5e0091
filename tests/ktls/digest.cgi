#!/bin/busybox sh
# The origin's answer to an upload: the digest of what came.
printf 'Content-Type: text/plain\r\n\r\n'
/bin/busybox head -c "$CONTENT_LENGTH" | /bin/busybox sha256sum
