{{- define "carp.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Names of the two accounts, which the admission policy and the roles are about. */}}
{{- define "carp.agent" -}}
{{ .Values.node.agent.serviceAccount.name | default (printf "%s-agent" .Values.fullnameOverride) }}
{{- end -}}
{{- define "carp.controller" -}}
{{ .Values.controller.serviceAccount.name | default (printf "%s-controller" .Values.fullnameOverride) }}
{{- end -}}

{{/* Of a component, as selectors use them: never changed, and without the release's name, since there is one
     of each in a cluster. */}}
{{- define "carp.selector" -}}
app.kubernetes.io/name: carp-operator
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "carp.labels" -}}
{{ include "carp.selector" . }}
app.kubernetes.io/part-of: carp-operator
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An address for a probe of the kubelet, which runs on the node itself. */}}
{{- define "carp.local" -}}
{{ eq . "[::1]" | ternary "::1" "127.0.0.1" }}
{{- end -}}

{{/* What a program that needs no privilege may do. */}}
{{- define "carp.unprivileged" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "carp.servers" -}}
{{- range .Values.apiServer.endpoints }}
- --api-server={{ . }}
{{- end }}
{{- end -}}

{{/* A pod of a hook: as little as it needs, on any node that takes pods. */}}
{{- define "carp.hookPod" -}}
restartPolicy: Never
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.controller.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.controller.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
