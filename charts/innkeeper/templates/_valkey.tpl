{{/* A reply leaves when what it says is on disk, and nothing is ever evicted: what innkeeper calls fsync. */}}
{{- define "innkeeper.valkeyConf" -}}
bind * -::*
port 6379
dir /data
appendonly yes
appendfsync always
save ""
maxmemory {{ .Values.valkey.maxMemory }}
maxmemory-policy noeviction
{{- end }}
